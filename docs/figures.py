"""The figures of these pages, drawn by `python docs/figures.py`: the same bytes wherever it runs."""

from __future__ import annotations

import math
import re
from html import escape
from pathlib import Path

INK, MUTED, LINE, PAPER, PANEL = "#22272b", "#5c646a", "#c9cdd0", "#fbfaf7", "#ffffff"
VISUAL, AUDIO, BOTH = "#3d7a3d", "#b5446e", "#1f6f8b"
"""The gates' colours in `davel localize --plot`, and that of its events."""
TINTS = {VISUAL: "#e3efe1", AUDIO: "#f8e3eb", BOTH: "#deedf2", MUTED: "#eeeeec"}
STEP_SECONDS = 8 / 25
"""Of I3D, VGGish and `light`."""


class Drawing:
    """Elements of an SVG, one behind the other."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        self.width, self.height, self.title, self.description = width, height, title, description
        self.elements: list[str] = []

    def add(self, tag: str, content: str = "", **attributes: object) -> None:
        listed = "".join(f' {name.rstrip("_").replace("_", "-")}="{value}"' for name, value in attributes.items())
        self.elements.append(f"<{tag}{listed}>{content}</{tag}>" if content else f"<{tag}{listed}/>")

    def text(self, x: float, y: float, text: str, size: int = 15, colour: str = INK, **more: object) -> None:
        """`T_l` and `2^l` with a small letter, `g_A` and `g_V`, too."""
        more = {"text_anchor": "middle"} | more
        small = r'<tspan dy="{0}" font-size="80%">\2</tspan><tspan dy="{1}">\3</tspan>'
        content = re.sub(r"\b([Tg])_(\w)(.|$)", r"\1" + small.format(4, -4), escape(text, quote=False))
        content = re.sub(r"\b(2)\^(\w)(.|$)", r"\1" + small.format(-5, 5), content)
        self.add("text", content, x=number(x), y=number(y), font_size=size, fill=colour, **more)

    def code(self, x: float, y: float, text: str, anchor: str = "end") -> None:
        """A class of davel's."""
        self.text(x, y, text, 14, MUTED, text_anchor=anchor, class_="code")

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, stroke: str | None = None, radius: float = 0
    ) -> None:
        more: dict[str, object] = {"rx": number(radius)} if radius else {}
        more |= {"stroke": stroke} if stroke else {}
        self.add("rect", x=number(x), y=number(y), width=number(width), height=number(height), fill=fill, **more)

    def box(self, x: float, y: float, width: float, height: float, colour: str, *lines: str) -> None:
        """A rounded box with lines of text, the first one strong."""
        self.rect(x, y, width, height, TINTS[colour], colour, radius=8)
        first = y + height / 2 + 6 - 10 * (len(lines) - 1)
        for n, line in enumerate(lines):
            size, weight = (15, 400) if n else (16, 600)
            self.text(x + width / 2, first + 20 * n, line, size, INK, font_weight=weight)

    def panel(self, y: float, height: float, title: str, code: str) -> None:
        """A stage of the network: what it is called, and its class."""
        self.rect(24, y, self.width - 48, height, PANEL, LINE, radius=12)
        self.text(44, y + 28, title, 18, INK, text_anchor="start", font_weight=600)
        self.code(self.width - 44, y + 28, code)

    def path(self, d: str, colour: str, arrow: bool = False, halo: bool = False, **more: object) -> None:
        if halo:  # so that of two lines that cross one is seen to pass over the other
            self.add("path", d=d, fill="none", stroke=PANEL, stroke_width=7)
        if arrow:
            more["marker_end"] = f"url(#to-{colour[1:]})"
        self.add("path", d=d, fill="none", stroke=colour, stroke_width=2, **more)

    def steps(self, x: float, y: float, width: float, height: float, count: int, colour: str) -> None:
        """A row of so many steps."""
        each = width / count
        for n in range(count):
            self.rect(x + n * each + 1, y, each - 2, height, TINTS[colour], colour)

    def __str__(self) -> str:
        markers = "".join(
            f'<marker id="to-{colour[1:]}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" '
            f'markerUnits="userSpaceOnUse" orient="auto-start-reverse" overflow="visible">'
            f'<path d="M-3 -1 L9 5 L-3 11 Z" fill="{colour}"/></marker>'
            for colour in (VISUAL, AUDIO, BOTH, MUTED)
        )
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" aria-labelledby="title desc" '
            'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">',
            f'<title id="title">{escape(self.title)}</title>',
            f'<desc id="desc">{escape(self.description)}</desc>',
            f"<defs><style>.code {{ font-family: ui-monospace, Menlo, Consolas, monospace; }}</style>{markers}</defs>",
            f'<rect width="{self.width}" height="{self.height}" rx="14" fill="{PAPER}"/>',
        ]
        return "\n".join([*head, *self.elements, "</svg>", ""])


def number(x: float) -> str:
    """As short as it is exact to a tenth of a pixel."""
    return f"{x:.1f}".removesuffix(".0")


def ccnet() -> str:
    """From video and sound to events, stage by stage, from top to bottom."""
    d = Drawing(
        960,
        1680,
        "CCNet, from a video to its events",
        "Pictures and sound become two sequences of features with a step every 0.32 seconds. Each is embedded by "
        "itself. CMCC makes six levels of them, each with half the steps of the one before: in every level the "
        "interaction (CMI) lets each modality be searched with the other's queries, and gates (TCG) computed from the "
        "sound raise the pictures, those from the pictures raise the sound. Both are concatenated at each level. MTGC "
        "then goes over the levels three times: coarse to fine (C2F), along time and across classes (TDM), fine to "
        "coarse (F2C). At every step of every level the decoder gives a score for each class, and for each class the "
        "distances to the start and the end. Soft-NMS makes events of these candidates.",
    )
    inputs(d, 24)
    embedding(d, 256)
    consistency(d, 360)
    collaboration(d, 940)
    decoder(d, 1234)
    events(d, 1470)
    return str(d)


LEFT, RIGHT = 246, 714
"""Where the pictures go down, and the sound."""
COLUMN = 372


def inputs(d: Drawing, y: float) -> None:
    """A film and a waveform; something happens in the same part of both. Under them the steps of the features."""
    d.text(LEFT, y + 18, "pictures", 18, VISUAL, font_weight=600)
    d.text(RIGHT, y + 18, "sound", 18, AUDIO, font_weight=600)
    for n in range(8):
        x = LEFT - COLUMN / 2 + 46.7 * n
        d.rect(x, y + 34, 43, 52, "#e9ecea", LINE, radius=3)
        d.add("path", d=f"M{number(x)} {y + 78} q10 -12 21 -6 t22 -4 v14 h-43 z", fill="#c4d3c2")
        if 3 <= n <= 5:  # a bell swings into the picture
            swing = (-14, 0, 14)[n - 3]
            d.add(
                "path",
                d="M-9 11 q3 -3 3 -10 q0 -9 6 -9 q6 0 6 9 q0 7 3 10 z M-3 11 a3 3 0 0 0 6 0 z",
                transform=f"translate({number(x + 21.5)} {y + 52}) rotate({swing})",
                fill=VISUAL,
            )
    for n in range(95):
        t = n / 94
        burst = math.exp(-(((t - 0.42) * 7) ** 2)) if t < 0.42 else math.exp(-(t - 0.42) * 5)
        loud = 2 + 24 * burst * (0.55 + 0.45 * math.sin(n * 2.4) ** 2) + 2 * math.sin(n * 1.7) ** 2
        d.rect(RIGHT - COLUMN / 2 + 3.93 * n, y + 60 - loud, 2.4, 2 * loud, AUDIO)
    for x, colour in ((LEFT, VISUAL), (RIGHT, AUDIO)):
        d.path(f"M{x} {y + 96} V{y + 118}", colour, arrow=True)
        d.steps(x - COLUMN / 2, y + 124, COLUMN, 26, 32, colour)
        d.path(f"M{x} {y + 190} V{y + 226}", colour, arrow=True)
    d.text(LEFT, y + 176, "visual features: T × 2048", 16)
    d.text(RIGHT, y + 176, "audio features: T × 128", 16)
    d.text(480, y + 134, "a step", colour=MUTED)
    d.text(480, y + 152, "every", colour=MUTED)
    d.text(480, y + 170, "0.32 s", colour=MUTED)


def embedding(d: Drawing, y: float) -> None:
    for x, colour in ((LEFT, VISUAL), (RIGHT, AUDIO)):
        d.box(
            x - COLUMN / 2, y, COLUMN, 62, colour, "unimodal embedding", "2 convolutions, positions, 2 × self-attention"
        )
        d.path(f"M{x} {y + 62} V{y + 98}", colour, arrow=True)
    d.code(480, y + 36, "Embedding", "middle")


def consistency(d: Drawing, y: float) -> None:
    """CMCC: one level in full, and what comes of all six."""
    d.panel(y, 536, "CMCC: six levels of pictures and sound", "CrossModalConsistency")
    top = y + 56
    boxes, bottom = top + 62, top + 136
    # What a level takes: each stream goes to its own interaction and gate, and to the other's interaction as queries.
    d.text(LEFT - 104, top + 4, "V (T × D)", 15, VISUAL, font_weight=600)
    d.text(RIGHT + 104, top + 4, "A (T × D)", 15, AUDIO, font_weight=600)
    d.path(f"M{RIGHT} {top - 6} V{top + 38} M{LEFT + 29} {top + 38} H{RIGHT + 31}", AUDIO)
    for x in (LEFT + 30, 549, RIGHT + 30):
        d.path(f"M{x} {top + 38} V{boxes - 4}", AUDIO, arrow=True)
    for x in (LEFT - 30, 411, RIGHT - 30):
        d.path(f"M{x} {top + 20} V{boxes - 4}", VISUAL, arrow=True, halo=x > LEFT)
    d.path(f"M{LEFT} {top - 6} V{top + 20} M{LEFT - 31} {top + 20} H{RIGHT - 29}", VISUAL)
    d.box(60, boxes, 276, 74, VISUAL, "CMI", "keys and values: pictures", "queries: sound")
    d.box(348, boxes, 126, 74, VISUAL, "TCG", "self-attention", "over pictures")
    d.box(486, boxes, 126, 74, AUDIO, "TCG", "self-attention", "over sound")
    d.box(624, boxes, 276, 74, AUDIO, "CMI", "keys and values: sound", "queries: pictures")
    # The gates cross over.
    node = bottom + 62
    for x, colour in ((LEFT, VISUAL), (RIGHT, AUDIO)):
        d.path(f"M{x} {bottom} V{node - 22}", colour, arrow=True)
    d.path(
        f"M411 {bottom} C411 {node + 8}, 560 {node}, {RIGHT - 56} {node}", VISUAL, arrow=True, stroke_dasharray="7 4"
    )
    d.path(
        f"M549 {bottom} C549 {node + 8}, 400 {node}, {LEFT + 56} {node}",
        AUDIO,
        arrow=True,
        halo=True,
        stroke_dasharray="7 4",
    )
    for x, colour, gate in ((LEFT, VISUAL, "A"), (RIGHT, AUDIO, "V")):
        d.rect(x - 48, node - 18, 96, 36, PANEL, colour, radius=18)
        d.text(x, node + 5, f"× (1 + g_{gate})", 16)
        d.path(f"M{x} {node + 18} V{node + 58} H{480 - 60 if x == LEFT else 480 + 60} V{node + 74}", colour, arrow=True)
    d.text(LEFT - 120, node - 2, "sound opens", 15, AUDIO)
    d.text(LEFT - 120, node + 17, "the pictures", 15, AUDIO)
    d.text(RIGHT + 120, node - 2, "pictures open", 15, VISUAL)
    d.text(RIGHT + 120, node + 17, "the sound", 15, VISUAL)
    d.text(480, node + 46, "gates from 0 to 1", colour=MUTED)
    # All levels: the same time, in ever longer steps; channels of both on top of each other.
    rows = node + 104
    d.text(120, rows - 8, "level", colour=MUTED)
    d.text(686, rows - 8, "a step", colour=MUTED)
    d.text(822, rows - 8, "reach of its events", colour=MUTED)
    for level in range(6):
        at = rows + 6 + 26 * level
        d.steps(200, at, 416, 9, 32 >> level, VISUAL)
        d.steps(200, at + 10, 416, 9, 32 >> level, AUDIO)
        step = STEP_SECONDS * 2**level
        reach = [STEP_SECONDS * (2 << level) if level else 0, STEP_SECONDS * (4 << level)]
        told = f"{reach[0]:.1f} to {reach[1]:.1f} s" if 0 < level < 5 else ""
        told = told or (f"from {reach[0]:.1f} s" if level else f"up to {reach[1]:.1f} s")
        d.text(120, at + 15, str(level), 15)
        d.text(686, at + 15, f"{step:.2f} s", 15)
        d.text(822, at + 15, told, 15)
        if level < 5:
            d.path(f"M150 {at + 10} q22 13 0 24", MUTED, arrow=True)
    d.path(f"M480 {y + 536} V{y + 578}", BOTH, arrow=True)
    d.text(494, y + 563, "per level, concatenated: T_l × 2D, where T_l = T / 2^l", colour=MUTED, text_anchor="start")


def collaboration(d: Drawing, y: float) -> None:
    """MTGC: three passes over the levels."""
    d.panel(y, 250, "MTGC: the levels tell each other", "CCNet.collaborate")
    top, width = y + 58, 190
    for n in range(3):
        x = 72 + 296 * n
        for row in range(6):  # of the pyramid; in the middle, of the classes of one level
            d.steps(x, top + 19 * row, width, 12, 8 if n == 1 else 32 >> row, BOTH)
        if n < 2:
            d.path(f"M{x + width + 36} {top + 54} H{x + width + 88}", BOTH, arrow=True)
    for level in range(5):  # from a level to the next finer one; from a level to the next coarser one
        at = top + 19 * level + 6
        d.path(f"M{72 + width + 5} {at + 17} q16 -8 1 -15", MUTED, arrow=True)
        d.path(f"M{664 + width + 5} {at} q16 8 1 15", MUTED, arrow=True)
    both_ends = {"arrow": True, "marker_start": f"url(#to-{MUTED[1:]})"}
    d.path(f"M370 {top - 11} H{366 + width}", MUTED, **both_ends)
    d.path(f"M{368 + width + 14} {top + 2} V{top + 105}", MUTED, **both_ends)
    lines = (
        ("C2F", "CoarseToFine", "each level is asked by", "the next coarser one"),
        ("TDM", "TemporalDependencies", "on each level: along time,", "and across the classes"),
        ("F2C", "FineToCoarse", "each level asks", "the next finer one"),
    )
    for n, (name, code, *told) in enumerate(lines):
        x = 72 + 296 * n + width / 2
        named = f'<tspan font-weight="600">{name}</tspan>  <tspan class="code" font-size="14">{code}</tspan>'
        d.add("text", named, x=number(x), y=top + 136, font_size=16, fill=INK, text_anchor="middle")
        for row, line in enumerate(told):
            d.text(x, top + 156 + 18 * row, line, 15)
    d.path(f"M480 {y + 250} V{y + 292}", BOTH, arrow=True)


def decoder(d: Drawing, y: float) -> None:
    """What is said at one step, for one class."""
    d.panel(y, 192, "decoder: what every step of every level says", "Decoder")
    d.box(62, y + 50, 330, 58, BOTH, "class-wise classification", "a score for each class: T_l × C")
    d.box(62, y + 118, 330, 58, BOTH, "class-aware regression", "two distances for each: T_l × C × 2")
    axis, point, start, end = y + 138, 640, 516, 846
    d.rect(start, axis - 36, end - start, 26, TINTS[BOTH], BOTH, radius=4)
    d.text((start + end) / 2, axis - 17, "church bell ringing: 0.57", 15)
    d.steps(440, axis, 440, 14, 11, MUTED)
    d.rect(600 + 1, axis, 38, 14, BOTH)
    at = 620
    d.path(f"M{at - 6} {axis + 26} H{start + 4}", BOTH, arrow=True)
    d.path(f"M{at + 6} {axis + 26} H{end - 4}", BOTH, arrow=True)
    d.text((at + start) / 2, axis + 44, "to the start", colour=MUTED)
    d.text((at + end) / 2 + 8, axis + 44, "to the end", colour=MUTED)
    d.text(point, y + 82, "one step and one class", colour=MUTED)
    d.path(f"M480 {y + 192} V{y + 234}", BOTH, arrow=True)
    d.text(494, y + 219, "candidates of all steps, levels and classes", colour=MUTED, text_anchor="start")


def events(d: Drawing, y: float) -> None:
    """Candidates, the weaker of those that overlap made weaker still, and what is left."""
    d.panel(y, 186, "soft-NMS: what overlaps a better one loses score", "decode, nms")
    bell = ((96, 196, 0.9), (84, 176, 0.45), (112, 208, 0.35), (100, 150, 0.22))
    dog = ((280, 330, 0.95), (274, 322, 0.5), (288, 344, 0.3))
    for group, top in ((bell, y + 56), (dog, y + 56)):
        for n, (start, end, score) in enumerate(group):
            d.add("rect", x=start, y=top + 22 * n, width=end - start, height=15, rx=3, fill=BOTH, fill_opacity=score)
    d.path(f"M64 {y + 142} H364", MUTED, arrow=True)
    d.text(214, y + 166, "candidates", colour=MUTED)
    d.path(f"M392 {y + 92} H452", BOTH, arrow=True)
    lanes = (("church bell ringing", 496, 626, "0.57"), ("dog barking", 750, 816, "0.81"))
    for n, (label, start, end, score) in enumerate(lanes):
        at = y + 54 + 40 * n
        d.path(f"M480 {at + 13} H900", LINE)
        d.rect(start, at, end - start, 26, BOTH, radius=4)
        d.text((start + end) / 2, at + 18, score, 15, PANEL)
        d.text(end + 12 if n == 0 else start - 12, at + 8, label, 15, text_anchor="start" if n == 0 else "end")
    d.path(f"M480 {y + 142} H896", MUTED, arrow=True)
    d.text(690, y + 166, "events: class, start, end and score, in seconds", colour=MUTED)


FIGURES = {"ccnet.svg": ccnet}
"""How each figure beside this file is drawn."""


def main() -> None:
    for name, draw in FIGURES.items():
        (Path(__file__).parent / name).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()

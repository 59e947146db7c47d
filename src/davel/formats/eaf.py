"""ELAN's annotation files (EAF 3.0): a tier per class, and more where events of a class overlap."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from davel.core.events import Event, Video
from davel.formats.base import MILLI, Collector, File, Format, name_of, one, one_line, spans

SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
XSI = "http://www.w3.org/2001/XMLSchema-instance"


def dumps(videos: Sequence[Video]) -> str:
    video = one(videos, "eaf")
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "davel",
            "DATE": "1970-01-01T00:00:00+00:00",
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": XSI,
            "xsi:noNamespaceSchemaLocation": SCHEMA,
        },
    )
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if video.media:
        media = one_line(name_of(video))
        kind = {"MEDIA_URL": media, "RELATIVE_MEDIA_URL": media, "MIME_TYPE": "video/mp4"}
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", kind)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    slots: dict[int, str] = {}
    tiers = _tiers(spans(list(video.events), MILLI))
    for time in sorted({t for spans_ in tiers.values() for a, b, _ in spans_ for t in (a, b)}):
        slots[time] = f"ts{len(slots) + 1}"
        ElementTree.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slots[time], "TIME_VALUE": str(time)})
    count = 0
    for name, tier_spans in tiers.items():
        tier = ElementTree.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": name})
        for a, b, e in tier_spans:
            count += 1
            annotation = ElementTree.SubElement(
                ElementTree.SubElement(tier, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                {"ANNOTATION_ID": f"a{count}", "TIME_SLOT_REF1": slots[a], "TIME_SLOT_REF2": slots[b]},
            )
            ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = one_line(e.label)
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _tiers(found: Sequence[tuple[int, int, Event]]) -> dict[str, list[tuple[int, int, Event]]]:
    """Spans by tier; within a tier none overlap."""
    tiers: dict[str, list[tuple[int, int, Event]]] = {}
    for span in found:
        label, n = one_line(span[2].label), 1
        while (name := label if n == 1 else f"{label} ({n})") in tiers and tiers[name][-1][1] > span[0]:
            n += 1
        tiers.setdefault(name, []).append(span)
    return tiers


def loads(file: File, found: Collector) -> None:
    try:
        root = ElementTree.fromstring(file.text.encode("utf-8", "surrogateescape"))
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"expected ANNOTATION_DOCUMENT, got {root.tag}")
    media = next((m.get("MEDIA_URL") for m in root.iter("MEDIA_DESCRIPTOR")), None)
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    video = found.video(media=media)
    for tier in root.iter("TIER"):
        for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
            start, end = (times.get(annotation.get(f"TIME_SLOT_REF{n}")) for n in (1, 2))
            where = f"annotation {annotation.get('ANNOTATION_ID')}"
            if start is None or end is None:
                found.problem(f"{where} has no time: align it in ELAN first", video)
                continue
            label = (annotation.findtext("ANNOTATION_VALUE") or "").strip() or tier.get("TIER_ID")
            try:
                found.add(video, where, label=label, start=float(start) / 1000, end=float(end) / 1000)
            except (ValueError, OverflowError):
                found.problem(f"{where}: expected whole milliseconds, got {start[:20]!r} and {end[:20]!r}", video)


FORMAT = Format(
    name="eaf",
    suffix="eaf",
    about="ELAN; a tier per class, more where events of a class overlap",
    dumps=dumps,
    loads=loads,
    unit=MILLI,
)

"""ELAN's annotation files (EAF 3.0): a tier per class, and more where events of a class overlap."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from davel.core.events import Event
from davel.formats.base import Collector, Video, id_of, one, one_line, spans

MILLI = 1e-3
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
        kind = {"MEDIA_URL": video.media, "RELATIVE_MEDIA_URL": video.media, "MIME_TYPE": "video/mp4"}
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


def loads(text: str, key: str) -> list[Video]:
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"expected ANNOTATION_DOCUMENT, got {root.tag}")
    media = next((m.get("MEDIA_URL") for m in root.iter("MEDIA_DESCRIPTOR")), None)
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    found = Collector()
    found.video(id_of(media) if media else key, media=media)
    for tier in root.iter("TIER"):
        for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
            ends = [times.get(annotation.get(f"TIME_SLOT_REF{n}")) for n in (1, 2)]
            where = f"annotation {annotation.get('ANNOTATION_ID')}"
            if ends[0] is None or ends[1] is None:
                raise ValueError(f"{where} has no time: align it in ELAN first")
            label = (annotation.findtext("ANNOTATION_VALUE") or "").strip() or tier.get("TIER_ID") or ""
            try:
                found.add(id_of(media) if media else key, label, int(ends[0]) / 1000, int(ends[1]) / 1000)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
    return found.videos()

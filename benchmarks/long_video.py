"""A file of hours: how much memory it takes, and whether it is localized as well as its parts alone.

    davel scenes scenes --videos 100 --seed 7
    python benchmarks/long_video.py scenes [--hours 3] [--json FILE]

The scenes are laid one behind the other, as often as it takes: their pictures as they are, their sound, which has many
rates, as samples; their true events are known. The long file and one of a minute are localized in processes of their
own, whose peak memory is told; average mAP is that of all events of the long file, against that of the same scenes,
each by itself.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import numpy as np

import davel
from davel.core.events import EventList, Video
from davel.evaluate import score
from davel.formats import read_annotations
from davel.media import probe

RATE = 48000
GAP = Fraction(1, 4)
"""Seconds between two files: the coders run up before their zero."""


def lay_out(files: Sequence[Path], target: Path) -> list[float]:
    """Write files whose pictures are of one kind one behind the other: the seconds at which each begins."""
    starts, position, samples = [], Fraction(0), 0
    with av.open(str(target), "w") as out:
        pictures: Any = None
        sound = out.add_stream("pcm_s16le", rate=RATE, layout="mono")

        def put(values: np.ndarray) -> None:
            nonlocal samples
            frame = av.AudioFrame.from_ndarray(values.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), samples
            samples += values.size
            out.mux(sound.encode(frame))

        for file in files:
            starts.append(float(position))
            end = position
            silence = round(position * RATE) - samples
            if silence > 0:
                put(np.zeros(silence, np.int16))
            resampler = av.AudioResampler("s16", "mono", RATE)
            with av.open(str(file)) as source:
                if pictures is None:
                    pictures = out.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(source.streams.video[0], source.streams.audio[0]):
                    if packet.stream.type == "audio":
                        for frame in packet.decode():
                            for part in resampler.resample(frame):
                                put(part.to_ndarray())
                    elif packet.dts is not None:
                        shift = round(position / packet.time_base)
                        end = max(end, position + (packet.pts + (packet.duration or 0)) * packet.time_base)
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = pictures
                        out.mux(packet)
                for part in resampler.resample(None):
                    put(part.to_ndarray())
            position = max(end, Fraction(samples, RATE)) + GAP
        out.mux(sound.encode(None))
    return starts


def child(path: Path, model: str, output: Path) -> None:
    """Localize, and keep the events, the seconds and the peak memory in GB."""
    began = time.perf_counter()
    result = davel.load(model).localize(path, threshold=0.0)
    if result.coverage.warnings:
        raise SystemExit(f"the benchmark's own file is damaged: {result.coverage.warnings}")
    events = [(e.label, e.start, e.end, e.score) for e in result.events]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    content = {"events": events, "seconds": time.perf_counter() - began, "peak_gb": peak, "media": result.duration}
    output.write_text(json.dumps(content))


def localized(path: Path, model: str, folder: Path) -> dict[str, Any]:
    output = folder / f"{path.stem}.json"
    subprocess.run([sys.executable, __file__, "--child", str(path), model, str(output)], check=True)
    return dict(json.loads(output.read_text()))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="a folder that `davel scenes` wrote")
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--json", type=Path, help="also write the figures into this file")
    arguments = parser.parse_args()
    annotations = read_annotations(arguments.scenes / "annotations.json")
    labels = annotations.labels
    videos: list[Video] = []
    total = 0.0
    for video in cycle(annotations.videos.values()):
        if total >= 3600 * arguments.hours:
            break
        videos.append(video)
        total += video.seconds
    files = {key: arguments.scenes / "videos" / f"{key}.mp4" for key in annotations.videos}
    localizer = davel.load(arguments.model)
    alone = {v.id: localizer.localize(files[v.id], threshold=0.0).events for v in {v.id: v for v in videos}.values()}
    copies = {f"{n}": replace(video, id=f"{n}") for n, video in enumerate(videos)}
    apart = score({f"{n}": alone[v.id] for n, v in enumerate(videos)}, copies, len(labels))["average_mAP"]

    with tempfile.TemporaryDirectory() as folder:
        long, short = Path(folder, "long.mkv"), Path(folder, "minute.mkv")
        starts = lay_out([files[video.id] for video in videos], long)
        minute: list[Path] = []
        while sum(probe(file).duration_seconds or 0 for file in minute) < 60:
            minute.append(files[videos[len(minute)].id])
        lay_out(minute, short)
        runs = {path.stem: localized(path, arguments.model, Path(folder)) for path in (short, long)}
    found = [davel.Event(*event) for event in runs["long"]["events"]]
    truth = [
        EventList(v.events.segments + start, v.events.scores, v.events.label_ids, labels)
        for v, start in zip(videos, starts, strict=True)
    ]
    whole = EventList(
        np.concatenate([t.segments for t in truth]),
        np.concatenate([t.scores for t in truth]),
        np.concatenate([t.label_ids for t in truth]),
        labels,
    )
    nothing = EventList.of([], labels)
    long_video = replace(videos[0], id="long", duration=runs["long"]["media"], events=whole, decoys=nothing)
    together = score({"long": EventList.of(found, labels)}, {"long": long_video}, len(labels))["average_mAP"]
    results = {
        "hours": runs["long"]["media"] / 3600,
        "scenes": len(videos),
        "average mAP, each alone": apart,
        "average mAP, one behind the other": together,
        "peak memory, GB (minute)": runs["minute"]["peak_gb"],
        "peak memory, GB (long)": runs["long"]["peak_gb"],
        "memory ratio": runs["long"]["peak_gb"] / runs["minute"]["peak_gb"],
        "x real time": runs["long"]["media"] / runs["long"]["seconds"],
    }
    for key, value in results.items():
        print(f"{key}: {value:.4g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""How much faster than real time a file is decoded and its `light` features are made, on one core.

    python benchmarks/light_features.py [VIDEO] [--repeats N] [--json]

Without a file, a scene is rendered (320x240, 25 fps, H.264 and AAC). Speeds are by processor time, the best of all
repeats, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from davel.core.returning import consume
from davel.data.scenes.render import plan_scene, render_scene
from davel.features.light import FRAME_SIZE, SPEC, LightAudio, LightVisual
from davel.media import Picture, Sound, open_media


def measure(path: Path, repeats: int) -> dict[str, float]:
    """Processor seconds of each part, and the media's `duration_seconds`."""
    seconds: dict[str, list[float]] = {"decode": [], "visual": [], "audio": []}
    duration = 0.0
    for _ in range(repeats):
        start = time.process_time()
        with open_media(path) as source:
            items: list[Picture | Sound] = []
            reading = source.read(fps=SPEC.fps, sample_rate=SPEC.sample_rate, size=FRAME_SIZE)
            duration = consume(reading, items.append).duration_seconds
        seconds["decode"].append(time.process_time() - start)

        start, visual = time.process_time(), LightVisual()
        for item in items:
            if isinstance(item, Picture):
                visual.push(item.rgb)
        visual.take()
        seconds["visual"].append(time.process_time() - start)

        start, audio = time.process_time(), LightAudio()
        for item in items:
            if not isinstance(item, Picture):
                audio.push(item.samples)
        audio.take()
        seconds["audio"].append(time.process_time() - start)
    best = {part: min(values) for part, values in seconds.items()}
    return best | {
        "features": best["visual"] + best["audio"],
        "total": sum(best.values()),
        "duration_seconds": duration,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {arguments.repeats}")
    if hasattr(os, "sched_setaffinity"):  # the decoder makes a thread for each core it may use
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.video
        if path is None:
            path = Path(folder) / "scene.mp4"
            render_scene(plan_scene(1, 0), path)
        cost = measure(path, arguments.repeats)
    duration = cost.pop("duration_seconds")
    speeds = {part: round(duration / max(spent, 1e-9), 1) for part, spent in cost.items()}
    if arguments.json:
        print(json.dumps({"duration_seconds": duration, "times_real_time": speeds}))
        return
    table = Table("part", "processor seconds", "× real time", title=f"light features of {duration:.1f} s of video")
    for part, spent in cost.items():
        table.add_row(part, f"{spent:.3f}", f"{speeds[part]:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()

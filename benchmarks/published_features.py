"""How much faster the published features are made than by the published procedure, and what that costs.

    python benchmarks/published_features.py [--only flow,rgb,audio,precision,stages,memory] [--json FILE]

The plain procedure (`plain_features.py`) stands beside this file: per window, nothing shared. Both have the same random
weights and the same pictures and sound; their features are compared before anything is told. Flow and RGB are timed
per step of a long video, from the second step on. Memory is that of the whole extraction of a rendered hour and of a
minute, in processes of their own, with networks that are no work. `--device cuda` measures the same on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import plain_features as plain
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from unav100 import best_of, cpu_name, require_equal

from davel.features import i3d, i3d_vggish, raft, vggish
from davel.features.i3d_vggish.stream import STRIDE, WINDOW, Networks, Sound, TwoStream
from davel.features.reading import Settings
from davel.features.resize import resize, short_side_size
from davel.features.store import FeatureStore

PARTS = ("flow", "rgb", "audio", "precision", "stages", "memory")
SIZE = (240, 320)
"""Of the pictures: 341x256 once resized."""
GMAC = {"encode": 2 * 5.98, "pair": 0.49 + 20 * 3.68 + 0.61, "window": 80.06, "example": 0.864}
"""Of a frame (both encoders), a pair at 20 updates, a window (both streams) and a second's third of sound."""


def parts() -> tuple[i3d.I3D, i3d.I3D, raft.RAFT, vggish.VGGish]:
    """The networks, with the same random weights every time."""
    torch.manual_seed(0)
    return i3d.I3D(3).eval(), i3d.I3D(2).eval(), raft.RAFT().eval(), vggish.VGGish().eval()


def networks(device: str, precision: torch.dtype = torch.float32) -> Networks:
    return Networks.of(*parts(), torch.device(device), precision)


def pictures(count: int) -> list[np.ndarray]:
    """Squares that wander over noise."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    frames = []
    for n in range(count):
        frame = ground.copy()
        for square in range(5):
            y, x = (40 * square + 3 * n) % 200, (60 * square + 5 * n) % 280
            frame[y : y + 40, x : x + 40] = 50 * square
        frames.append(frame)
    return frames


def streamed(made: Networks, frames: list[np.ndarray], updates: int) -> tuple[dict[str, list[np.ndarray]], float]:
    """The steps of both streams, and the seconds of one step but the first."""
    stream, steps = TwoStream(made, updates), {"rgb": [], "flow": []}
    marks = []
    for frame in frames:
        for name, rows in stream.push(frame):
            steps[name] += list(rows)
            if name == "flow":
                _wait(made.device)
                marks.append((len(steps["flow"]), time.perf_counter()))
    (first, began), (last, ended) = marks[0], marks[-1]
    return steps, (ended - began) / (last - first)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class NoFlow(raft.RAFT):
    """In place of RAFT where pictures alone are timed."""

    def encode(self, frames: Tensor) -> Tensor:
        return frames[:, :2, ::8, ::8]

    context = encode

    def flow(self, first: Tensor, second: Tensor, context: Tensor, updates: int = 0) -> Tensor:
        return torch.zeros(len(first), 2, 8 * first.shape[2], 8 * first.shape[3], device=first.device)


class NoNetwork(torch.nn.Module):
    """In place of I3D or VGGish where others are timed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, : self.channels].float()


def _window(frames: list[np.ndarray], step: int, device: torch.device) -> Tensor:
    """(25, 3, h, w), bytes, resized as every procedure does"""
    chosen = frames[step * STRIDE : step * STRIDE + WINDOW + 1]
    size = short_side_size(*chosen[0].shape[:2])
    return torch.stack([resize(torch.from_numpy(f).to(device), size) for f in chosen]).permute(0, 3, 1, 2)


def measure_flow(arguments: argparse.Namespace) -> dict[str, Any]:
    made = networks(arguments.device)
    only_flow = Networks(NoNetwork(1024), made.flow, made.raft, made.vggish, made.device, made.precision)
    steps = 1 + arguments.steps * made.steps_at_once
    frames = pictures(STRIDE * (steps - 1) + WINDOW + 1 + STRIDE * made.steps_at_once)
    ours, seconds = streamed(only_flow, frames, arguments.updates)
    network, spent = plain.plain_i3d(parts()[1]).to(made.device), []
    for step in range(arguments.repeats + 1 if made.device.type == "cuda" else arguments.repeats):
        start = time.perf_counter()
        with torch.inference_mode():
            padded = raft.pad_to_scale(_window(frames, step, made.device).float())
            flow = plain.plain_flow(made.raft, padded, arguments.updates)
            theirs = network(i3d.flow_input(flow).transpose(0, 1)[None])
        _wait(made.device)
        spent.append(time.perf_counter() - start)
        # a level of the quantiser may flip
        require_equal("flow features", torch.from_numpy(ours["flow"][step])[None], theirs.cpu(), 1e-2)
    return {"davel": seconds, "plain": min(spent), "ratio": min(spent) / seconds, "updates": arguments.updates}


def measure_rgb(arguments: argparse.Namespace) -> dict[str, Any]:
    made = networks(arguments.device)
    only_rgb = Networks(made.rgb, NoNetwork(1024), NoFlow(), made.vggish, made.device, made.precision)
    frames = pictures(STRIDE * (3 + arguments.repeats) * made.steps_at_once + WINDOW + 1)
    runs = [streamed(only_rgb, frames, 1) for _ in range(2)]
    ours, seconds = runs[0][0], min(run[1] for run in runs)
    network, spent = plain.plain_i3d(parts()[0]).to(made.device), []
    for step in range(arguments.repeats + 1):
        with torch.inference_mode():
            start = time.perf_counter()
            window = _window(frames, step, made.device)[:-1]
            theirs = network(i3d.rgb_input(window).transpose(0, 1)[None])
        _wait(made.device)
        spent.append(time.perf_counter() - start)
        require_equal("RGB features", torch.from_numpy(ours["rgb"][step])[None], theirs.cpu(), 1e-4)
    return {"davel": seconds, "plain": min(spent[1:]), "ratio": min(spent[1:]) / seconds}


def measure_audio(arguments: argparse.Namespace) -> dict[str, Any]:
    made = networks(arguments.device)
    length = 20
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * length).astype(np.float32)
    results: dict[str, Tensor] = {}

    def ours() -> None:
        sound = Sound(made)
        rows = [r for first in range(0, len(waveform), 8000) for _, r in sound.push(waveform[first : first + 8000])]
        results["davel"] = torch.from_numpy(np.concatenate(rows + [r for _, r in sound.finish()]))

    reference = parts()[3]

    def theirs() -> None:
        with torch.inference_mode():
            results["plain"] = plain.plain_vggish(reference, waveform)

    seconds, plainly = best_of(arguments.repeats, ours, made.device), best_of(arguments.repeats, theirs)
    require_equal("audio features", results["davel"], results["plain"], 1e-4)
    return {"davel": seconds, "plain": plainly, "ratio": plainly / seconds, "x real time": length / seconds}


def measure_precision(arguments: argparse.Namespace) -> dict[str, Any]:
    """What features lose in fewer bits: the mean error as a part of their spread, by stream."""
    frames = pictures(WINDOW + 1 + STRIDE)
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * 2).astype(np.float32)

    def all_streams(precision: torch.dtype) -> dict[str, np.ndarray]:
        made = networks(arguments.device, precision)
        stream, sound = TwoStream(made, arguments.updates), Sound(made)
        found: dict[str, list[np.ndarray]] = {"rgb": [], "flow": [], "vggish": []}
        for frame in frames:
            for name, rows in stream.push(frame):
                found[name].append(rows)
        for rows_of in (stream.finish(), sound.push(waveform), sound.finish()):
            for name, rows in rows_of:
                found[name].append(rows)
        return {name: np.concatenate(rows) for name, rows in found.items()}

    exact, result = all_streams(torch.float32), {}
    for precision in (torch.bfloat16, *((torch.float16,) if arguments.device != "cpu" else ())):
        for name, rough in all_streams(precision).items():
            error = np.abs(rough - exact[name]).mean() / exact[name].std()
            result[f"{str(precision).removeprefix('torch.')} {name}"] = float(error)
    return result


def measure_stages(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times real time of each stage at 341x256, and the arithmetic it reaches."""
    made = networks(arguments.device, getattr(torch, arguments.precision))
    count = 64 if made.device.type == "cuda" else 2
    frames = torch.randint(0, 256, (count + 1, 3, 256, 344), device=made.device).float()
    windows = max(made.steps_at_once, 1)
    inputs = [torch.rand(windows, c, WINDOW, 224, 224, device=made.device) for c in (3, 2)]
    inputs = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
    examples = torch.rand(16, 1, 96, 64, device=made.device)
    with made.running():
        maps, contexts = made.raft.encode(frames), made.raft.context(frames)
    works = {
        "encode": (lambda: (made.raft.encode(frames), made.raft.context(frames)), (count + 1) / 25, count + 1),
        "pair": (lambda: made.raft.flow(maps[:-1], maps[1:], contexts[:-1]), count / 25, count),
        "window": (lambda: (made.rgb(inputs[0]), made.flow(inputs[1])), windows * 0.32, windows),
        "example": (lambda: made.vggish(examples), 16 * 0.32, 16),
    }
    result: dict[str, Any] = {}
    total = 0.0
    for name, (work, media_seconds, units) in works.items():

        def once(work: Any = work) -> None:
            with made.running():
                work()

        seconds = best_of(arguments.repeats, once, made.device)
        total += seconds / media_seconds
        result[f"{name}: x real time"] = media_seconds / seconds
        result[f"{name}: TFLOP/s"] = 2e-3 * GMAC[name] * units / seconds
        if arguments.peak_tflops:
            result[f"{name}: of the peak"] = result[f"{name}: TFLOP/s"] / arguments.peak_tflops
    return result | {"in total: x real time": 1 / total}


def measure_memory(arguments: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in (("minute", 60.0), ("hour", arguments.hour_seconds)):
            path = Path(folder, f"{name}.mkv")
            render(path, seconds)
            for kind in ("i3d-vggish", "light"):
                command = [sys.executable, __file__, "--child", kind, str(path), folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                result[f"{kind}: peak memory of a {name}, GB"] = float(done.stdout)
    for kind in ("i3d-vggish", "light"):
        hour, minute = (result[f"{kind}: peak memory of a {name}, GB"] for name in ("hour", "minute"))
        result[f"{kind}: hour / minute"] = hour / minute
    return result


def render(path: Path, seconds: float) -> None:
    """A file of so many seconds, the same four of pictures over and over."""
    frames = pictures(100)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "40"}
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for n in range(round(25 * seconds)):
            frame = av.VideoFrame.from_ndarray(frames[n % 100], format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(np.full((1, 640), n % 99, np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts = 16000, 640 * n
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))


def child(kind: str, path: Path, folder: Path) -> None:
    """Extract, and print the peak memory in GB."""
    torch.set_num_threads(1)
    none = (NoNetwork(1024), NoNetwork(1024), NoFlow(), NoNetwork(128))
    networks = Networks(*none, torch.device("cpu"), torch.float32)
    i3d_vggish.networks = lambda *_: networks
    i3d_vggish.FAMILY = replace(i3d_vggish.FAMILY, weights=())
    FeatureStore(folder).write(path, f"{path.stem}-{kind}", Settings.named(kind))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


MEASURES = {
    "flow": measure_flow,
    "rgb": measure_rgb,
    "audio": measure_audio,
    "precision": measure_precision,
    "stages": measure_stages,
    "memory": measure_memory,
}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="which parts, by commas")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="steps of flow that are timed, by batches")
    parser.add_argument("--updates", type=int, default=raft.UPDATES)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32", help="of stages")
    parser.add_argument("--peak-tflops", type=float, help="of the device's matrix products, to say what is reached")
    parser.add_argument("--hour-seconds", type=float, default=3600.0, help="of the long file for memory")
    parser.add_argument("--json", type=Path, help="also write the figures into this file")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := [part for part in chosen if part not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    torch.set_num_threads(arguments.threads)
    machine = {"torch": torch.__version__, "threads": arguments.threads, "cpu": cpu_name(), "device": arguments.device}
    if arguments.device != "cpu":
        machine["device"] = torch.cuda.get_device_name(torch.device(arguments.device))
    results = {part: MEASURES[part](arguments) for part in chosen}
    if arguments.json:
        content = {"machine": machine, "results": results}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    title = ", ".join(f"{key} {value}" for key, value in machine.items())
    table = Table("work", "davel", "plain", "ratio", title=title, title_justify="left")
    for part, result in results.items():
        if "ratio" in result:
            table.add_row(part, f"{result['davel']:.4g} s", f"{result['plain']:.4g} s", f"{result['ratio']:.2f} x")
    if table.rows:
        Console().print(table)
    for part, result in results.items():
        more = {key: value for key, value in result.items() if key not in ("davel", "plain", "ratio")}
        if more:
            told = ", ".join(f"{key} {value:.4g}" for key, value in more.items())
            Console().print(f"{part}: {told}", highlight=False)


if __name__ == "__main__":
    main()

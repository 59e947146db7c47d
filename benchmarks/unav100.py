"""How much faster davel works than a plain implementation of the same, at the size of UnAV-100.

    python benchmarks/unav100.py [--only inference,training,targets,evaluation] [--json FILE]

The plain reference (`plain.py`) stands beside this file. Both are given the same weights and the same input, and their
results are compared before anything is timed: where they differ, the benchmark stops. Training steps run in processes
of their own, whose peak memory is told. Speeds are the best of all repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plain
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from davel.compute.allocator import keep_freed_memory
from davel.core.events import EventList
from davel.data.dataset import Batch, Sample, collate
from davel.data.simulate import Simulation, draw_annotations
from davel.detection import assign, decode, points
from davel.evaluate.metrics import THRESHOLDS, average_precision
from davel.features.i3d_vggish import SPEC as I3D_VGGISH
from davel.models import CCNet, CCNetConfig
from davel.train import Run, fit
from davel.train.recipe import Compute, Recipe

PARTS = ("inference", "training", "targets", "evaluation")
STEPS = (112, 130, 150, 180)
"""Of the four videos of a training batch: a short, two middle and a long one of UnAV-100."""
SECONDS, NUM_STEPS = 42, 130
"""Of the video that is localized."""
VIDEOS, PREDICTIONS = 2167, 43_000
"""For the evaluation: UnAV-100's test subset, twenty predictions for each video."""


@dataclass(frozen=True)
class Size:
    width: int = 512
    class_width: int = 128
    classes: int = 100
    max_length: int = 224

    @property
    def config(self) -> CCNetConfig:
        return CCNetConfig(
            num_classes=self.classes, width=self.width, class_width=self.class_width, max_length=self.max_length
        )

    def network(self) -> CCNet:
        torch.manual_seed(0)
        network = CCNet(self.config)
        with torch.no_grad():  # what starts near zero would hide a difference
            for name, parameter in network.named_parameters():
                if name.endswith(".scale"):
                    parameter.fill_(0.5)
        return network

    def batch(self, lengths: tuple[int, ...]) -> Batch:
        """Simulated videos of so many steps."""
        videos = iter(draw_annotations(10 * len(lengths), self.classes, seed=1).videos.values())
        simulation = Simulation(num_classes=self.classes)
        samples = []
        for T in lengths:
            video = next(video for video in videos if I3D_VGGISH.timing.num_steps(video.duration) >= min(T, 60))
            visual, audio = simulation.draw(video)
            rows = np.arange(T) % len(visual)
            segments = I3D_VGGISH.timing.steps(video.events.segments).clip(0, T).astype(np.float32)
            kept = segments[:, 1] - segments[:, 0] > 0
            labels = video.events.label_ids[kept]
            samples.append(Sample(video.id, visual[rows], audio[rows], segments[kept], labels))
        return collate(samples)


def best_of(repeats: int, work: Callable[[], Any], device: torch.device | None = None) -> float:
    """Seconds of the fastest run after one that does not count."""
    spent = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - start)
    return min(spent[1:])


def require_equal(what: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """End the benchmark unless two results are equal, as part of their spread."""
    spread = float(theirs.float().std()) or 1.0
    worst = float((ours.float() - theirs.float()).abs().max()) / spread if ours.numel() else 0.0
    if ours.shape != theirs.shape or not worst <= tolerance:
        sys.exit(f"{what} differ by {worst:.2e} of their spread, more than {tolerance:.0e}: nothing is timed")


def require_equal_outputs(network: CCNet, reference: nn.Module, batch: Batch) -> None:
    network.eval()
    reference.eval()
    with torch.inference_mode():
        ours = network(batch.visual, batch.audio, batch.mask)
        logits, offsets = reference(*padded(batch, network.config.max_length))
    for level, (a, b) in enumerate(((ours.logits, logits), (ours.offsets, offsets))):
        for x, y, mask in zip(a, b, [batch.mask[:, :: 2**i] for i in range(len(a))], strict=True):
            require_equal(("logits", "offsets")[level], x[mask], y[:, : mask.shape[1]][mask], 1e-4)


def padded(batch: Batch, length: int) -> tuple[Tensor, Tensor, Tensor]:
    mask = nn.functional.pad(batch.mask, (0, length - batch.mask.shape[1]))
    return plain.pad(batch.visual, length), plain.pad(batch.audio, length), mask


def measure_inference(size: Size, arguments: argparse.Namespace) -> dict[str, Any]:
    """A video of 42 s, from features to events."""
    device = torch.device(arguments.device)
    network = size.network().eval().to(device)
    reference = plain.PlainCCNet(network).eval().to(device)
    T = min(NUM_STEPS, size.max_length)
    batch = size.batch((T,)).to(device)
    require_equal_outputs(network, reference, batch)
    timing = I3D_VGGISH.timing
    autocast = torch.autocast(device.type, torch.bfloat16) if arguments.precision == "bfloat16" else nullcontext()

    def forward() -> Any:
        with torch.inference_mode(), autocast:
            return network(batch.visual, batch.audio, batch.mask)

    def forward_plain() -> Any:
        with torch.inference_mode(), autocast:
            return reference(*padded(batch, size.max_length))

    outputs = forward()
    logits, offsets = ([x[0].float().cpu() for x in part] for part in (outputs.logits, outputs.offsets))
    found = decode(outputs, batch.mask, timing, SECONDS)[0]
    segments, scores, labels = plain.decode(logits, offsets, T, timing, SECONDS)
    real = segments[:, 0] < segments[:, 1]
    require_equal("classes of events", torch.tensor(found.label_ids), torch.tensor(labels[real]), 0)
    require_equal("scores of events", torch.tensor(found.scores), torch.tensor(scores[real]), 1e-4)
    require_equal("times of events", torch.tensor(found.segments), torch.tensor(segments[real]), 1e-4)
    seconds = {
        "forward": (best_of(arguments.repeats, forward, device), best_of(arguments.repeats, forward_plain, device)),
        "events": (
            best_of(arguments.repeats, lambda: decode(outputs, batch.mask, timing, SECONDS), device),
            best_of(arguments.repeats, lambda: plain.decode(logits, offsets, T, timing, SECONDS)),
        ),
    }
    ours, theirs = (sum(part[i] for part in seconds.values()) for i in (0, 1))
    parts = {f"{name} ({who})": part[i] for name, part in seconds.items() for i, who in enumerate(("davel", "plain"))}
    return {"davel": ours, "plain": theirs, "ratio": theirs / ours, "steps": T, **parts}


def measure_training(size: Size, arguments: argparse.Namespace) -> dict[str, Any]:
    """A step of a batch of four: forward, targets, losses, backward, clipping, AdamW, averaged weights."""
    network = size.network()
    require_equal_outputs(network, plain.PlainCCNet(network), size.batch(_lengths(size)))
    del network
    runs = {name: _child(name, arguments) for name in ("davel", "davel, checkpointed", "plain")}
    theirs = runs["plain"]
    result: dict[str, Any] = {"davel": runs["davel"]["seconds"], "plain": theirs["seconds"]}
    result["ratio"] = theirs["seconds"] / runs["davel"]["seconds"]
    for name, run in runs.items():
        result[name] = run["seconds"]
        result[f"peak memory, GB ({name})"] = run["peak_gb"]
        for key in ("samples_per_second", "tflops", "fraction_of_peak"):
            if key in run:
                result[f"{key} ({name})"] = run[key]
    result["memory ratio"] = theirs["peak_gb"] / runs["davel"]["peak_gb"]
    result["ratio, checkpointed"] = theirs["seconds"] / runs["davel, checkpointed"]["seconds"]
    result["memory ratio, checkpointed"] = theirs["peak_gb"] / runs["davel, checkpointed"]["peak_gb"]
    return result


def _lengths(size: Size) -> tuple[int, ...]:
    return tuple(min(T, size.max_length) for T in STEPS)


def _child(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", name, "--repeats", str(arguments.repeats)]
    for option in ("threads", "width", "class_width", "classes", "max_length", "device", "precision"):
        command += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
    if arguments.peak_tflops:
        command += ["--peak-tflops", str(arguments.peak_tflops)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def train_alone(name: str, size: Size, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of a training step and the peak memory of this process (or of the GPU)."""
    device = torch.device(arguments.device)
    batch = size.batch(_lengths(size))
    step = _davel_step(size, batch, device, name, arguments) if name != "plain" else _plain_step(size, batch, device)
    result: dict[str, float] = {"seconds": best_of(arguments.repeats, step, device)}
    result["samples_per_second"] = len(batch.ids) / result["seconds"]
    if device.type == "cuda":
        result["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            step()
        result["tflops"] = counter.get_total_flops() / result["seconds"] / 1e12
        if arguments.peak_tflops:
            result["fraction_of_peak"] = result["tflops"] / arguments.peak_tflops
    else:
        result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return result


def _davel_step(
    size: Size, batch: Batch, device: torch.device, name: str, arguments: argparse.Namespace
) -> Callable[[], None]:
    keep_freed_memory()
    compute = Compute(precision=arguments.precision, checkpoint_activations=name.endswith("checkpointed"))
    run = Run.start(size.config, Recipe(), compute, 100, device)

    def once() -> Iterator[Batch]:
        yield batch

    return lambda: fit(run, once(), lambda told: None)


def _plain_step(size: Size, batch: Batch, device: torch.device) -> Callable[[], None]:
    network = plain.PlainCCNet(size.network()).to(device).train()
    average = plain.PlainCCNet(size.network()).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-4)
    count = torch.tensor(250.0, device=device)
    real = [mask.bool() for mask in _point_masks(padded(batch, size.max_length)[2])]

    def step() -> None:
        nonlocal count
        visual, audio, mask = (x.to(device) for x in padded(batch, size.max_length))
        classes, target = (x.to(device) for x in plain.assign(size.max_length, *_events(batch), size.classes))
        logits, offsets = network(visual, audio, mask)
        points_mask = torch.cat(real, dim=1).to(device)
        positive = (classes & points_mask[..., None]).any(-1).sum()
        count = 0.9 * count + 0.1 * positive.clamp(min=1)
        parts = plain.losses(torch.cat(logits, 1), torch.cat(offsets, 1), points_mask, classes, target)
        optimizer.zero_grad()
        (sum(parts) / count).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for kept, now in zip(average.parameters(), network.parameters(), strict=True):
                kept.mul_(0.999).add_(now, alpha=0.001)

    return step


def _point_masks(mask: Tensor) -> list[Tensor]:
    return [mask[:, :: 2**level] for level in range(len(plain.RANGES))]


def _events(batch: Batch) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Each video's segments (N, 2) and classes (N,)."""
    known = [labels >= 0 for labels in batch.truth.labels]
    segments = [s[k].numpy() for s, k in zip(batch.truth.segments, known, strict=True)]
    return segments, [labels[k].numpy() for labels, k in zip(batch.truth.labels, known, strict=True)]


def measure_targets(size: Size, arguments: argparse.Namespace) -> dict[str, Any]:
    """What every point of a batch of sixteen should say."""
    batch = size.batch(tuple(min(T, size.max_length) for T in STEPS * 4))
    position, level = points(size.max_length, len(plain.RANGES))
    ours = assign(position, level, batch.truth, size.classes)
    classes, offsets = plain.assign(size.max_length, *_events(batch), size.classes)
    require_equal("classes of points", ours.classes, classes, 0)
    require_equal("offsets of points", ours.offsets, offsets, 1e-6)
    repeats = 5 * arguments.repeats
    spent = best_of(repeats, lambda: assign(position, level, batch.truth, size.classes))
    spent_plain = best_of(repeats, lambda: plain.assign(size.max_length, *_events(batch), size.classes))
    return {"davel": spent, "plain": spent_plain, "ratio": spent_plain / spent, "positive": int(classes.any(-1).sum())}


def measure_evaluation(size: Size, arguments: argparse.Namespace) -> dict[str, Any]:
    """Average precision of 43,000 predictions at nine thresholds."""
    num_videos = min(VIDEOS, 20 * size.classes + 200)
    truth = {key: v.events for key, v in draw_annotations(num_videos, size.classes, seed=2).videos.items()}
    rng = np.random.default_rng(3)
    predicted = {}
    for key, events in truth.items():
        N = PREDICTIONS // VIDEOS + 1
        like = rng.integers(len(events), size=N)
        segments = events.segments[like] + rng.normal(0, 2, (N, 2))
        segments = np.sort(segments.clip(0), axis=1) + np.array([0, 0.1])
        labels = np.where(rng.random(N) < 0.5, events.label_ids[like], rng.integers(size.classes, size=N))
        predicted[key] = EventList(segments, rng.random(N), labels, events.labels)
    ours = average_precision(predicted, truth, size.classes)
    theirs = plain.average_precision(predicted, truth, size.classes, THRESHOLDS)
    require_equal("average precisions", torch.tensor(ours).nan_to_num(), torch.tensor(theirs).nan_to_num(), 1e-9)
    spent = best_of(arguments.repeats, lambda: average_precision(predicted, truth, size.classes))
    spent_plain = best_of(1, lambda: plain.average_precision(predicted, truth, size.classes, THRESHOLDS))
    count = sum(map(len, predicted.values()))
    return {"davel": spent, "plain": spent_plain, "ratio": spent_plain / spent, "predictions": count}


MEASURES = {
    "inference": measure_inference,
    "training": measure_training,
    "targets": measure_targets,
    "evaluation": measure_evaluation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="which parts, by commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--width", type=int, default=Size.width)
    parser.add_argument("--class-width", type=int, default=Size.class_width)
    parser.add_argument("--classes", type=int, default=Size.classes)
    parser.add_argument("--max-length", type=int, default=Size.max_length)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--peak-tflops", type=float, help="of the device's matrix products, to say what part is reached"
    )
    parser.add_argument("--json", type=Path, help="also write the figures into this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    if arguments.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {arguments.repeats}")
    torch.set_num_threads(arguments.threads)
    size = Size(arguments.width, arguments.class_width, arguments.classes, arguments.max_length)
    if arguments.child:
        print(json.dumps(train_alone(arguments.child, size, arguments)))
        return
    keep_freed_memory()
    machine = {"torch": torch.__version__, "threads": arguments.threads, "cpu": cpu_name(), "device": arguments.device}
    if arguments.device != "cpu":
        machine["device"] = torch.cuda.get_device_name(torch.device(arguments.device))
    results = {part: MEASURES[part](size, arguments) for part in parts}
    if arguments.json:
        content = {"machine": machine, "size": asdict(size), "results": results}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    title = ", ".join(f"{key} {value}" for key, value in machine.items())
    table = Table("work", "davel", "plain", "ratio", title=title, title_justify="left")
    for part, result in results.items():
        table.add_row(part, f"{result['davel']:.4g} s", f"{result['plain']:.4g} s", f"{result['ratio']:.1f} x")
    Console().print(table)
    for part, result in results.items():
        more = {key: value for key, value in result.items() if key not in ("davel", "plain", "ratio")}
        Console().print(f"{part}: " + ", ".join(f"{key} {value:.4g}" for key, value in more.items()), highlight=False)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()

"""A network by ONNX Runtime against the same by torch, on one window of steps of the model's whole length.

    python benchmarks/onnx_runtime.py [MODEL] [--threads N] [--json FILE]

Times are the best of several; both use as many threads, torch is davel's own inference (`benchmarks/unav100.py`
compares that with a plain version).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from davel.models.onnx import exported, load_onnx
from davel.models.saved import load_model


def best_of(repeats: int, work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="scenes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the figures into this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network, info, _ = load_model(arguments.model)
    began = time.perf_counter()
    path = exported(arguments.model)
    export_seconds = time.perf_counter() - began
    by_onnx, _, _ = load_onnx(path)
    config = info.config
    generator = torch.Generator().manual_seed(0)
    dims = (config.visual_dim, config.audio_dim)
    visual, audio = (torch.randn(1, config.max_length, dim, generator=generator) for dim in dims)
    mask = torch.ones(1, config.max_length, dtype=torch.bool)
    with torch.inference_mode():
        by_torch = best_of(arguments.repeats, lambda: network(visual, audio, mask))
    in_onnx = best_of(arguments.repeats, lambda: by_onnx(visual, audio, mask))
    results = {
        "threads": arguments.threads,
        "torch, ms": 1000 * by_torch,
        "ONNX Runtime, ms": 1000 * in_onnx,
        "ratio": by_torch / in_onnx,
        "export, s (0 if kept)": export_seconds,
        "file, MB": path.stat().st_size / 1e6,
    }
    for key, value in results.items():
        print(f"{key}: {value:.4g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

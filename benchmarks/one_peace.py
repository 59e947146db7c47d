"""ONE-PEACE at full size with one layer in memory at a time: peak memory, and seconds a layer.

    python benchmarks/one_peace.py audio
    python benchmarks/one_peace.py video --precision bfloat16

Needs no weights: they are zeros, in a file with holes that takes no disk. Time and memory are those of any weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from math import prod
from pathlib import Path
from typing import Any

import torch

from davel.features.one_peace.audio import AudioSizes
from davel.features.one_peace.published import encoders
from davel.features.one_peace.storage import SCHEMA, TYPE_NAMES, StoredEncoder
from davel.features.one_peace.text import TextSizes
from davel.features.one_peace.video import VideoSizes

COMMON = {"width": 1536, "inner": 6144, "heads": 24, "layers": 40}
SIZES = {
    "audio": AudioSizes(channels=512, groups=16, buckets=1026, **COMMON),
    "text": TextSizes(vocabulary=50264, positions=514, buckets=514, **COMMON),
    "video": VideoSizes(channels=384, adapter=384, grid=16, frames=16, classes=400, **COMMON),
}
INPUTS = {"audio": (1, 16000), "text": (1, 12), "video": (1, 3, 16, 256, 256)}


def sparse_weights(path: Path, name: str) -> Path:
    """A converted encoder of full size, float16, all zeros and all holes."""
    (kind,) = encoders(name)
    with torch.device("meta"):
        shapes = {key: tuple(x.shape) for key, x in kind(SIZES[name]).state_dict().items()}
    facts = {"schema": SCHEMA, "branch": name, "weights": "float16", "source_sha256": "0" * 64}
    header: dict[str, Any] = {"__metadata__": facts}
    end = 0
    for key, shape in shapes.items():
        dtype = torch.float16 if len(shape) == 2 and key.startswith(("layers.", "words.")) else torch.float32
        begin, end = end, end + prod(shape) * dtype.itemsize
        header[key] = {"dtype": TYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SIZES)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--rows", type=int, default=1, help="windows, or prompts")
    options = parser.parse_args()
    (kind,) = encoders(options.name)
    _, *shape = INPUTS[options.name]
    inputs = torch.randn(options.rows, *shape)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        stored = StoredEncoder(sparse_weights(Path(folder) / "a.safetensors", options.name), kind)
        precision = getattr(torch, options.precision)
        encoder = kind.from_file(stored, precision, torch.device("cpu"), streamed=True)
        started = time.perf_counter()
        made = encoder(inputs.abs().long() + 4 if options.name == "text" else inputs)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    weights = sum(map(prod, stored.shapes.values()))
    print(
        f"{options.name}: {weights / 1e9:.2f} G parameters, {tuple(made.shape)}; peak of the process {peak:.2f} GB; "
        f"{seconds:.1f} s, {seconds / encoder.sizes.layers if encoder.sizes.layers else seconds / 40:.2f} s a layer"
    )


if __name__ == "__main__":
    main()

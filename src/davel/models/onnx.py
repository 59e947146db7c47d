"""A model as one ONNX file, and its use through ONNX Runtime (extra `onnx`).

The file takes `visual` (1, T, Dv) and `audio` (1, T, Da), T anything up to the model's length M, and gives its
candidates at that length: `segments` (1, P, C or 1, 2), start and end in steps of the input, and `scores` (1, P, C),
which are 0 behind the video's end; and the model's curves by their names (1, M), of which the first T values are the
video's. What davel must know besides stands in its metadata under `davel`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from davel.core.errors import ConfigError, MissingError, printable
from davel.core.files import home, replacing
from davel.models import Network, NetworkConfig, model_module
from davel.models.detector import Candidates, DecodeSettings, DetectorOutputs
from davel.models.saved import EMBEDDINGS, ModelInfo, find_model, info_of, load_model, plain_info

TOLERANCE = 1e-4
"""The most by which an output of the file may differ from the network's, else it is not written."""
FORMAT = "2"
"""Of what an exported file gives; another one is exported again."""
MODALITIES = ("visual", "audio")
CPU = "CPUExecutionProvider"


def _require(*names: str) -> None:
    for name in names:
        if find_spec(name) is None:
            raise MissingError(f"ONNX needs {name}: pip install 'davel[onnx]'")


class _Flat(nn.Module):
    """A network of one video that gives a tuple of tensors: segments, scores, curves."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, visual: Tensor, audio: Tensor) -> list[Tensor]:
        outputs: DetectorOutputs = self.network(visual, audio)
        candidates = outputs.candidates()
        return [candidates.segments, candidates.scores, *outputs.curves().values()]


def export(name_or_dir: str | Path, path: Path) -> float:
    """Write a model as an ONNX file, if ONNX Runtime computes the same from it: the largest difference of an output.

    ConfigError if it does not, or if a model of this kind cannot be written so.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    network, info, digest = load_model(name_or_dir)
    config, T = info.config, max(info.config.max_length // 2, 1)
    whole = network.exportable().eval()
    example = (torch.zeros(1, T, config.visual_dim), torch.zeros(1, T, config.audio_dim))
    length = torch.export.Dim("T", min=1, max=config.max_length)
    with torch.inference_mode():
        outputs: DetectorOutputs = whole(*example)
    about = {"format": FORMAT, "groups": outputs.candidates().groups, "weights_sha256": digest}
    with _quiet():
        program = torch.onnx.export(
            _Flat(whole).eval(),
            example,
            input_names=list(MODALITIES),
            output_names=["segments", "scores", *outputs.curves()],
            dynamic_shapes={m: {1: length} for m in MODALITIES},
            dynamo=True,
            optimize=False,  # which takes a minute, and ONNX Runtime does it again
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # where in torch it comes from, three times as large as the model
        program.model.metadata_props["davel"] = json.dumps(plain_info(info) | about)
        with replacing(path) as temporary:
            program.save(str(temporary))
            difference = _check(load_onnx(temporary)[0], network)
    return difference


def _check(exported: OnnxNetwork, network: Network) -> float:
    generator = torch.Generator().manual_seed(0)
    config, worst = network.config, 0.0
    for T in {1, config.max_length // 2 + 1, config.max_length}:
        visual, audio = (torch.randn(1, T, dim, generator=generator) for dim in (config.visual_dim, config.audio_dim))
        mask = torch.ones(1, T, dtype=torch.bool)
        with torch.inference_mode():
            expected, found = network(visual, audio, mask).within(mask), exported(visual, audio, mask)
        ours, theirs = expected.candidates(), found.candidates()
        real, told = ours.scores[0].any(-1), theirs.scores[0].any(-1)  # the others are behind the video's end
        if real.sum() != told.sum():
            raise ConfigError(f"ONNX Runtime gives {told.sum()} candidates for {real.sum()}: nothing was written")
        pairs = [
            (ours.segments[:, real], theirs.segments[:, told]),
            (ours.scores[:, real], theirs.scores[:, told]),
            *zip(expected.curves().values(), found.curves().values(), strict=True),
        ]
        for a, b in pairs:
            worst = max(worst, float((a - b).abs().max() / max(float(a.abs().max()), 1.0)))
    if not worst <= TOLERANCE:
        raise ConfigError(f"ONNX Runtime's outputs differ by {worst:.2g}, more than {TOLERANCE:g}: nothing was written")
    return worst


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter speaks of itself on every channel there is."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@dataclass(frozen=True)
class OnnxOutputs(DetectorOutputs):
    """What a file gives for one video."""

    found: Candidates
    named: dict[str, Tensor]
    """By name, (1, T)."""

    def candidates(self) -> Candidates:
        return self.found

    def curves(self) -> dict[str, Tensor]:
        return self.named


class OnnxNetwork:
    """What a network is to the rest of davel (`davel.models.detector.Detector`), run by ONNX Runtime; batches of one
    video only."""

    device = torch.device("cpu")
    """Where outputs lie, wherever they were computed."""

    def __init__(self, path: Path, config: NetworkConfig, groups: Sequence[int], session: Any) -> None:
        self.path, self.config, self.groups, self.session = path, config, tuple(groups), session
        self.detection: DecodeSettings = model_module(config.name).Model.detection
        self.names = [output.name for output in session.get_outputs()]

    def to(self, device: torch.device) -> OnnxNetwork:
        """ConfigError if this ONNX Runtime cannot compute there."""
        providers = {"cpu": CPU, "cuda": "CUDAExecutionProvider"}
        if device.type not in providers:
            raise ConfigError(f"ONNX Runtime is used on {' and '.join(providers)} here, not on {device.type}")
        if providers[device.type] != self.session.get_providers()[0]:
            self.session = _session(self.path, providers[device.type])
        return self

    def __call__(self, visual: Tensor, audio: Tensor, mask: Tensor) -> OnnxOutputs:
        """(1, T, Dv), (1, T, Da), (1, T) all True -> the outputs"""
        assert len(mask) == 1
        assert bool(mask.all())
        fed = {m: np.ascontiguousarray(x.numpy(), np.float32) for m, x in zip(MODALITIES, (visual, audio), strict=True)}
        segments, scores, *curves = map(torch.from_numpy, self.session.run(None, fed))
        named = {name: curve[:, : mask.shape[1]] for name, curve in zip(self.names[2:], curves, strict=True)}
        return OnnxOutputs(Candidates(segments, scores, self.groups), named)


def _session(path: Path, provider: str = CPU, optimized: Path | None = None) -> Any:
    """`optimized`: where to write the graph as ONNX Runtime makes it faster."""
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        raise ConfigError(f"this ONNX Runtime has no {provider}: use --device cpu, or pip install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    if optimized is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimized)
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=[provider])
    except OSError as error:
        raise ConfigError(f"{printable(path)}: cannot read: {error.strerror}") from error
    except Exception as error:  # its classes are made by C++ and share no other base
        raise ConfigError(f"{printable(path)}: not an ONNX model: {str(error).splitlines()[0]}") from error


def load_onnx(path: Path) -> tuple[OnnxNetwork, ModelInfo, str]:
    """A model from a file that `export` wrote: its network, what is known of it, and its weights' sha256.

    ConfigError if it is another kind of file.
    """
    _require("onnxruntime")
    session = _session(path)
    held = session.get_modelmeta().custom_metadata_map.get("davel")
    if held is None:
        raise ConfigError(f"{printable(path)}: was not written by `davel export`: nothing says what it reads and finds")
    content = json.loads(held)
    if content.get("format") != FORMAT:
        raise ConfigError(f"{printable(path)}: was written by another version of davel: export the model again")
    info = info_of(content, path)
    return OnnxNetwork(path, info.config, content["groups"], session), info, str(content["weights_sha256"])


def exported(name_or_dir: str | Path, folder_of_all: Path | None = None) -> Path:
    """The ONNX file of a model, exported once, optimized for ONNX Runtime and kept in the folder (or DAVEL_HOME); if it
    is such a file, that."""
    if Path(name_or_dir).suffix == ".onnx":
        return Path(name_or_dir)
    _require("onnx", "onnxscript", "onnxruntime")
    folder = find_model(name_or_dir)
    digest = hashlib.sha256(FORMAT.encode())
    for name in ("model.json", "model.safetensors", EMBEDDINGS):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    path = (folder_of_all or home()) / "onnx" / f"{digest.hexdigest()[:32]}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            plain = temporary.with_suffix(".plain.onnx")
            try:
                export(folder, plain)
                _session(plain, optimized=temporary)
            finally:
                plain.unlink(missing_ok=True)
    return path

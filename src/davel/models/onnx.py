"""A model as one ONNX file, and its use through ONNX Runtime (extra `onnx`).

The file takes `visual` (1, T, Dv) and `audio` (1, T, Da), T anything up to the model's length M, and gives per level l
`logits_l` (1, Ml, C), `offsets_l` (1, Ml, C, 2) and, from a network with gates, `gate_visual_l` and `gate_audio_l`
(1, Ml), Ml = M / 2^l. The first T / 2^l steps of a level, rounded up, are the video's; behind them all logits are
-100. What davel must know besides stands in its metadata under `davel`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.core.errors import ConfigError, MissingError, printable
from davel.core.files import home, replacing
from davel.models import Network, NetworkConfig
from davel.models.pyramid import MODALITIES, Grid, Outputs
from davel.models.saved import ModelInfo, find_model, info_of, load_model, plain_info

TOLERANCE = 1e-4
"""The most by which an output of the file may differ from the network's, else it is not written."""
NOTHING = -100.0
"""The logits behind a video's end."""
FORMAT = "1"
"""Of what is kept in the folder of exported models; another one is exported again."""


def _require(*names: str) -> None:
    for name in names:
        if find_spec(name) is None:
            raise MissingError(f"ONNX needs {name}: pip install 'davel[onnx]'")


class _Whole(nn.Module):
    """One video at the model's length, whatever its own: all sizes are known but that of what goes in."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, visual: Tensor, audio: Tensor) -> list[Tensor]:
        config, T = self.network.config, visual.shape[1]
        inputs = {"visual": visual, "audio": audio}
        inputs = {m: F.pad(x, (0, 0, 0, config.max_length - T)) for m, x in inputs.items()}
        mask = (torch.arange(config.max_length) < T)[None]
        grid = Grid([mask[:, :: 2**level] for level in range(config.num_levels)], everywhere=True)
        outputs = self.network.run(inputs, grid)
        logits = [x.where(real[..., None], NOTHING) for x, real in zip(outputs.logits, grid.masks, strict=True)]
        return _flat(replace(outputs, logits=logits))


def _flat(outputs: Outputs) -> list[Tensor]:
    return [*outputs.logits, *outputs.offsets, *(gate for m in MODALITIES for gate in outputs.gates[m])]


def _names(config: NetworkConfig, has_gates: bool) -> list[str]:
    kinds = ["logits", "offsets", *(f"gate_{m}" for m in MODALITIES if has_gates)]
    return [f"{kind}_{level}" for kind in kinds for level in range(config.num_levels)]


def export(name_or_dir: str | Path, path: Path) -> float:
    """Write a model as an ONNX file, if ONNX Runtime computes the same from it: the largest difference of an output.

    ConfigError if it does not.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    network, info, digest = load_model(name_or_dir)
    config, T = info.config, max(info.config.max_length // 2, 1)
    whole = _Whole(network).eval()
    example = (torch.zeros(1, T, config.visual_dim), torch.zeros(1, T, config.audio_dim))
    length = torch.export.Dim("T", min=1, max=config.max_length)
    with torch.inference_mode():
        has_gates = len(whole(*example)) > 2 * config.num_levels
    names = _names(config, has_gates)
    with _quiet():
        program = torch.onnx.export(
            whole,
            example,
            input_names=list(MODALITIES),
            output_names=names,
            dynamic_shapes={m: {1: length} for m in MODALITIES},
            dynamo=True,
            optimize=False,  # which takes a minute, and ONNX Runtime does it again
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # where in torch it comes from, three times as large as the model
        program.model.metadata_props["davel"] = json.dumps({**plain_info(info), "weights_sha256": digest})
        with replacing(path) as temporary:
            program.save(str(temporary))
            difference = _check(OnnxNetwork(temporary, config), network)
    return difference


def _check(exported: OnnxNetwork, network: Network) -> float:
    generator = torch.Generator().manual_seed(0)
    config, worst = network.config, 0.0
    for T in {1, config.max_length // 2 + 1, config.max_length}:
        visual, audio = (torch.randn(1, T, dim, generator=generator) for dim in (config.visual_dim, config.audio_dim))
        mask = torch.ones(1, T, dtype=torch.bool)
        with torch.inference_mode():
            expected, found = _flat(network(visual, audio, mask)), _flat(exported(visual, audio, mask))
        for a, b in zip(expected, found, strict=True):
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


class OnnxNetwork:
    """What `davel.models.Network` is to the rest of davel, run by ONNX Runtime; batches of one video only."""

    device = torch.device("cpu")
    """Where outputs lie, wherever they were computed."""

    def __init__(self, path: Path, config: NetworkConfig) -> None:
        self.path, self.config = path, config
        self.session = _session(path)
        self.names = [output.name for output in self.session.get_outputs()]

    def to(self, device: torch.device) -> OnnxNetwork:
        """ConfigError if this ONNX Runtime cannot compute there."""
        providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
        if device.type not in providers:
            raise ConfigError(f"ONNX Runtime is used on {' and '.join(providers)} here, not on {device.type}")
        self.session = _session(self.path, providers[device.type])
        return self

    def __call__(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Outputs:
        """(1, T, Dv), (1, T, Da), (1, T) all True -> the outputs"""
        assert len(mask) == 1
        assert bool(mask.all())
        fed = {m: np.ascontiguousarray(x.numpy(), np.float32) for m, x in zip(MODALITIES, (visual, audio), strict=True)}
        found = dict(zip(self.names, map(torch.from_numpy, self.session.run(None, fed)), strict=True))

        def levels(kind: str) -> list[Tensor]:
            return [found[f"{kind}_{n}"] for n in range(self.config.num_levels) if f"{kind}_{n}" in found]

        outputs = Outputs(levels("logits"), levels("offsets"), {m: levels(f"gate_{m}") for m in MODALITIES})
        return Network.crop(outputs, T=mask.shape[1])


def _session(path: Path, provider: str = "CPUExecutionProvider") -> Any:
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        raise ConfigError(f"this ONNX Runtime has no {provider}: use --device cpu, or pip install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
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
    held = _session(path).get_modelmeta().custom_metadata_map.get("davel")
    if held is None:
        raise ConfigError(f"{printable(path)}: was not written by `davel export`: nothing says what it reads and finds")
    content = json.loads(held)
    info = info_of(content, path)
    return OnnxNetwork(path, info.config), info, str(content["weights_sha256"])


def exported(name_or_dir: str | Path, folder_of_all: Path | None = None) -> Path:
    """The ONNX file of a model, exported once and kept in the folder (or DAVEL_HOME); if it is such a file, that."""
    if Path(name_or_dir).suffix == ".onnx":
        return Path(name_or_dir)
    _require("onnx", "onnxscript", "onnxruntime")
    folder = find_model(name_or_dir)
    digest = hashlib.sha256(FORMAT.encode())
    for name in ("model.json", "model.safetensors"):
        digest.update((folder / name).read_bytes())
    path = (folder_of_all or home()) / "onnx" / f"{digest.hexdigest()[:32]}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        export(folder, path)
    return path

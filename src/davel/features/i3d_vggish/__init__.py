"""Two-stream I3D (RGB, then RAFT's optical flow) and VGGish, as UnAV-100 was published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from davel.core.errors import ConfigError
from davel.features.family import Family, Frames, Precision, Stream, Weights
from davel.features.i3d_vggish.protocol import SPEC, Options

__all__ = ["FAMILY", "SPEC", "Options"]

if TYPE_CHECKING:
    from davel.features.i3d_vggish.stream import Networks, TwoStreamMaker

MAX_ASPECT = 8
"""The longer side of a picture over the shorter: flow compares every point with every other."""


def read_rgb(path: Path) -> Any:
    return _i3d(path, 3)


def read_flow(path: Path) -> Any:
    return _i3d(path, 2)


def _i3d(path: Path, channels: int) -> Any:
    from davel.compute.checkpoint import read_checkpoint
    from davel.features.i3d import I3D

    network = I3D.from_published(read_checkpoint(path))
    if network.conv3d_1a_7x7.conv3d.in_channels != channels:
        raise ConfigError("these are the weights of I3D's other stream: exchange the two files")
    return network


def read_raft(path: Path) -> Any:
    from davel.compute.checkpoint import read_checkpoint
    from davel.features.raft import RAFT

    return RAFT.from_published(read_checkpoint(path))


def read_vggish(path: Path) -> Any:
    from davel.compute.checkpoint import read_checkpoint
    from davel.features.vggish import VGGish

    return VGGish.from_published(read_checkpoint(path))


_VIDEO_FEATURES = "https://github.com/v-iashin/video_features/raw/master/models/i3d/checkpoints"

WEIGHTS = (
    Weights(
        name="i3d-rgb",
        file="i3d_rgb.pt",
        url=f"{_VIDEO_FEATURES}/i3d_rgb.pt",
        megabytes=51,
        licence="Apache-2.0",
        origin="DeepMind kinetics-i3d, ported by hassony2, kept by v-iashin/video_features",
        read=read_rgb,
    ),
    Weights(
        name="i3d-flow",
        file="i3d_flow.pt",
        url=f"{_VIDEO_FEATURES}/i3d_flow.pt",
        megabytes=51,
        licence="Apache-2.0",
        origin="DeepMind kinetics-i3d, ported by hassony2, kept by v-iashin/video_features",
        read=read_flow,
    ),
    Weights(
        name="raft",
        file="raft_large_C_T_SKHT_V1-0b8c9e55.pth",
        url="https://download.pytorch.org/models/raft_large_C_T_SKHT_V1-0b8c9e55.pth",
        megabytes=21,
        licence="BSD-3-Clause",
        origin="princeton-vl/RAFT (raft-sintel.pth), as torchvision publishes it",
        sha256="0b8c9e55",
        aliases=("raft-sintel.pth",),
        read=read_raft,
    ),
    Weights(
        name="vggish",
        file="vggish-10086976.pth",
        url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        megabytes=289,
        licence="Apache-2.0",
        origin="Google AudioSet, ported by harritaylor/torchvggish",
        sha256="10086976",
        read=read_vggish,
    ),
)


def networks(device: str, precision: Precision, compile: bool) -> Networks:
    """The published networks, ready to run. MissingError if their weights are not there."""
    import torch

    from davel.compute.device import choose_device
    from davel.features.i3d_vggish.stream import Networks
    from davel.features.weights import read_weights

    rgb, flow, raft, sound = (read_weights(weights) for weights in WEIGHTS)
    made = Networks.of(rgb, flow, raft, sound, choose_device(device), getattr(torch, precision))
    if compile:
        for network in (rgb, flow, sound, raft.fnet, raft.cnet, raft.update_block):
            network.compile()
    return made


def open_networks(options: Options, device: str, precision: Precision, compile: bool) -> TwoStreamMaker:
    from davel.features.i3d_vggish.stream import TwoStreamMaker

    return TwoStreamMaker(networks(device, precision, compile), options.flow_updates)


FAMILY = Family(
    spec=SPEC,
    Options=Options,
    streams={
        "rgb": Stream("visual", 1024, alike=0.99),
        "flow": Stream("visual", 1024, alike=0.95),
        "vggish": Stream("audio", 128, alike=0.98),
    },
    weights=WEIGHTS,
    frames=Frames(ahead=True, largest_aspect=MAX_ASPECT, lookahead=1),
    open=open_networks,
)

"""Targets, losses and decoding: pure functions between a network's outputs and events."""

from davel.data.dataset import Truth
from davel.detection.decode import DecodeSettings, decode
from davel.detection.losses import Criterion
from davel.detection.nms import NmsSettings, nms
from davel.detection.targets import Targets, assign, points

__all__ = ["Criterion", "DecodeSettings", "NmsSettings", "Targets", "Truth", "assign", "decode", "nms", "points"]

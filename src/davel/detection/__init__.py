"""Targets, losses and decoding: pure functions between a network's outputs and events."""

from davel.detection.decode import DecodeSettings, decode
from davel.detection.nms import NmsSettings, nms
from davel.models.detector import Truth
from davel.models.losses import Criterion
from davel.models.targets import Targets, assign, points

__all__ = ["Criterion", "DecodeSettings", "NmsSettings", "Targets", "Truth", "assign", "decode", "nms", "points"]

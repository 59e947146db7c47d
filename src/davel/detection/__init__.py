"""Decoding: pure functions between a network's candidates and events."""

from davel.detection.decode import decode
from davel.detection.nms import nms
from davel.models.detector import DecodeSettings, NmsSettings, Truth
from davel.models.losses import Criterion
from davel.models.targets import Targets, assign, points

__all__ = ["Criterion", "DecodeSettings", "NmsSettings", "Targets", "Truth", "assign", "decode", "nms", "points"]

"""A model of fresh weights that reads light features, small enough for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from davel.features.light import SPEC
from davel.models import CCNet, CCNetConfig
from davel.models.saved import ModelInfo, save_model

LABELS = ("bark", "bell", "rain")
CONFIG = CCNetConfig(
    num_classes=3, visual_dim=SPEC.visual_dim, audio_dim=SPEC.audio_dim, max_length=32, width=8, class_width=4
)
INFO = ModelInfo(name="tiny", config=CONFIG, features=SPEC, labels=LABELS, threshold=0.0, figures={})


def tiny_model(folder: Path, config: CCNetConfig = CONFIG) -> Path:
    """A model's folder. What it finds means nothing, but it finds something."""
    torch.manual_seed(0)
    model = CCNet(config).eval()
    with torch.no_grad():
        model.decoder.classify.start_at(-1.0)
        assert model.decoder.regress.out.bias is not None
        model.decoder.regress.out.bias.fill_(1.5)
    save_model(folder, model, replace(INFO, config=config))
    return folder

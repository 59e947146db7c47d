"""ONE-PEACE (Wang et al., arXiv:2305.11172): its video encoder, fine-tuned on Kinetics-400, its audio and its text
encoder, as UniAV and the lower half of CCNet's Table 1 use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from davel.features.family import Family, Frames, Precision, Stream
from davel.features.one_peace.protocol import OURS, SPEC, WIDTH, Options
from davel.features.one_peace.published import AUDIO, BASE, KINETICS, TEXT, VIDEO, VOCABULARY, encoders

__all__ = ["FAMILY", "SPEC", "Options"]

if TYPE_CHECKING:
    from davel.features.one_peace.stream import OnePeaceMaker

STEP_TFLOP = 17.2
"""Of a window of 16 frames and one of a second of sound, at full size."""


def open_one_peace(options: Options, device: str, precision: Precision, compile: bool) -> OnePeaceMaker:
    """Both encoders. MissingError if they are not there, ConfigError if they are others or if there is no room."""
    import torch

    from davel.compute.device import choose_device
    from davel.core.errors import ConfigError
    from davel.features.one_peace.stream import OnePeaceMaker, open_encoder, require_cheap, rows_at_once
    from davel.features.weights import find

    chosen, dtype = choose_device(device), getattr(torch, precision)
    spec = FAMILY.spec
    (video_kind, audio_kind), paths = encoders("video", "audio"), (find(VIDEO), find(AUDIO))
    rows = rows_at_once(chosen)
    video = open_encoder(paths[0], video_kind, dtype, chosen, spec.visual_dim, options.weights, rows)
    require_cheap(video, device, chosen)
    audio = open_encoder(paths[1], audio_kind, dtype, chosen, spec.audio_dim, options.weights)
    for encoder in (video, audio) if compile else ():
        if not isinstance(encoder.layers, torch.nn.ModuleList):
            raise ConfigError("features one-peace: layers that are read one at a time cannot be compiled: no --compile")
        for layer in encoder.layers:
            layer.compile()
    return OnePeaceMaker(video, audio)


def embed(labels: Sequence[str], modality: str) -> NDArray[np.float32]:
    """Names of classes -> (C, D), unit norm; the space is one for pictures and sound."""
    from davel.features.one_peace.embeddings import embed_prompts, prompts_of

    return np.asarray(embed_prompts(prompts_of(labels), FAMILY.spec.dim(modality))[0])


FAMILY = Family(
    spec=SPEC,
    Options=Options,
    ours=OURS,
    streams={
        "one_peace_video_finetune": Stream("visual", WIDTH),
        "one_peace_audio": Stream("audio", WIDTH),
    },
    weights=(VIDEO, AUDIO),
    sources=(KINETICS, BASE, TEXT, *VOCABULARY),
    frames=Frames(ahead=True),
    step_tflop=STEP_TFLOP,
    open=open_one_peace,
    embed=embed,
)

"""ONE-PEACE's visual encoder, fine-tuned on Kinetics-400, and its audio encoder. davel reads these features from
published files; it does not make them.
"""

from __future__ import annotations

from davel.features.family import Family, Stream
from davel.features.spec import FeatureSpec

SPEC = FeatureSpec(
    name="one-peace",
    version=1,
    fps=16.0,
    window=16,
    stride=4,
    sample_rate=16000,
    audio_window_seconds=1.0,
    audio_stride_seconds=0.25,
    visual_dim=1536,
    audio_dim=1536,
)

FAMILY = Family(
    spec=SPEC,
    streams={"one_peace_video_finetune": Stream("visual", 1536), "one_peace_audio": Stream("audio", 1536)},
)

"""The tensors of ONE-PEACE's released checkpoints by their names, and what is ours of each branch.

`one-peace.pt` holds audio, text and images in one network, `onepeace_video_k400.pth` the image branch with adapters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from davel.core.errors import ConfigError

T = TypeVar("T")

LAYER = {
    "self_attn_layer_norm": "attention_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.ln": "attention.norm",
    "self_attn.out_proj": "attention.out",
    "gamma_1": "attention_scale",
    "final_layer_norm": "feed_forward_norm",
    "ffn.0.wi_0": "feed_forward.gate",
    "ffn.0.wi_1": "feed_forward.value",
    "ffn.2": "feed_forward.norm",
    "ffn.3": "feed_forward.out",
    "gamma_2": "feed_forward_scale",
    "T_Adapter.D_fc1": "temporal.down",
    "T_Adapter.D_fc2": "temporal.up",
    "S_Adapter.D_fc1": "spatial.down",
    "S_Adapter.D_fc2": "spatial.up",
    "MLP_Adapter.D_fc1": "mlp.down",
    "MLP_Adapter.D_fc2": "mlp.up",
}
UNUSED = re.compile(
    r"decoder_.*|.*_mask_token|.*_mask_head\..*|(.*\.)?mask_embedding|(.*\.)?version|(.*\.)?rp_bucket|logit_scale"
)
"""What training alone needs, or what can be computed."""
MODALITIES = ("audio", "text", "image")


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One encoder within a released checkpoint."""

    name: str
    modality: str
    """What its tensors are called after: `audio_ffn`, `image_layer_norm`."""
    encoder: str
    """Before the names of layers."""
    outside: Mapping[str, str]
    """Our names of what is not of a layer; without `weight` and `bias` where both have them."""

    def state(self, tensors: Mapping[str, T]) -> dict[str, T]:
        """By our names. ConfigError if there are tensors that no branch has, or none of this one."""
        state: dict[str, T] = {}
        unknown = []
        for key, tensor in tensors.items():
            ours = self._ours(key)
            if ours is not None:
                state[ours] = tensor
            elif not UNUSED.fullmatch(key) and not self._is_anothers(key):
                unknown.append(key)
        if not state:
            raise ConfigError(f"not a released checkpoint of ONE-PEACE: nothing of its {self.name} encoder is in it")
        if unknown:
            raise ConfigError(
                f"not a released checkpoint of ONE-PEACE's {self.name} encoder: {len(unknown)} unknown tensors, first "
                f"{min(unknown)!r}"
            )
        return state

    def _ours(self, key: str) -> str | None:
        if key in self.outside:
            return self.outside[key]
        stem, dot, kind = key.rpartition(".")
        if kind not in ("weight", "bias"):
            stem, dot, kind = key, "", ""
        if stem in self.outside:
            return f"{self.outside[stem]}{dot}{kind}"
        layer = re.fullmatch(rf"{re.escape(self.encoder)}layers\.(\d+)\.(?:{self.modality}_(?=ffn))?(.+)", stem)
        if layer is None or layer[2] not in LAYER:
            return None
        return f"layers.{layer[1]}.{LAYER[layer[2]]}{dot}{kind}"

    def _is_anothers(self, key: str) -> bool:
        others = "|".join(modality for modality in MODALITIES if modality != self.modality)
        pattern = rf"{re.escape(self.encoder)}(layers\.\d+\.)?({others})_(ffn|layer_norm)\..*"
        return re.fullmatch(rf"encoder_wrapper\.({others})_adapter\..*|({others})_proj\..*|{pattern}", key) is not None


FUSED = "encoder_wrapper.fusion_model."

_AUDIO = "encoder_wrapper.audio_adapter."
AUDIO = Branch(
    name="audio",
    modality="audio",
    encoder=FUSED,
    outside={
        **{f"{_AUDIO}embed_audios.0.conv_layers.{i}.0": f"front.{i}" for i in range(7)},
        **{f"{_AUDIO}embed_audios.0.conv_layers.{i}.2.1": f"front_norms.{i}" for i in range(7)},
        f"{_AUDIO}embed_audios.2": "norm",
        f"{_AUDIO}embed_audios.3": "project",
        **{f"{_AUDIO}embed_positions.{i + 1}.0": f"positions.{i}" for i in range(5)},
        f"{_AUDIO}cls_embedding": "cls",
        f"{_AUDIO}cls_pos_embed": "cls_position",
        f"{_AUDIO}rel_pos_table_list.0.weight": "bias_table",
        f"{_AUDIO}rel_pos_table.weight": "bias_table",
        f"{FUSED}audio_layer_norm": "last_norm",
        "audio_proj": "head",
    },
)

_TEXT = "encoder_wrapper.text_adapter."
TEXT = Branch(
    name="text",
    modality="text",
    encoder=FUSED,
    outside={
        f"{_TEXT}embed_tokens": "words",
        f"{_TEXT}cls_embedding": "cls",
        f"{_TEXT}embed_positions.weight": "positions",
        f"{_TEXT}rel_pos_table_list.0.weight": "bias_table",
        f"{_TEXT}rel_pos_table.weight": "bias_table",
        f"{FUSED}text_layer_norm": "last_norm",
        "text_proj": "head",
    },
)

_IMAGE = "backbone.image_adapter."
VIDEO = Branch(
    name="video",
    modality="image",
    encoder="backbone.encoder.",
    outside={
        f"{_IMAGE}embed_images.0": "stem.0",
        f"{_IMAGE}embed_images.1.layer_norm": "stem_norms.0",
        f"{_IMAGE}embed_images.3": "stem.1",
        f"{_IMAGE}embed_images.4.layer_norm": "stem_norms.1",
        f"{_IMAGE}embed_images.6": "stem.2",
        f"{_IMAGE}cls_embedding": "cls",
        f"{_IMAGE}pos_embed": "positions",
        f"{_IMAGE}temporal_embedding": "times",
        f"{_IMAGE}rel_pos_table.weight": "bias_table",
        "backbone.encoder.image_layer_norm": "last_norm",
        "cls_head.fc_cls": "classes",
    },
)

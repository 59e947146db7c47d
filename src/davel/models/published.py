"""Released checkpoints, read into our models: the same weights give the same events.

The released state dict stores convolutions as (out, in, kernel), norms as (1, D, 1) and linears as 1x1 convolutions;
every name and shape is derived from ours, and nothing in the checkpoint may be left over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from davel.core.errors import ConfigError
from davel.models.ccnet import CCNet, CCNetConfig
from davel.models.unav import Unav, UnavConfig

Names = list[tuple[str, str | Callable[[re.Match[str]], str]]]

# Ours -> released, applied in order to a parameter's full name.
_CCNET: Names = [
    (r"^cross_modal_consistency\.levels\.0\.interaction\.(\w+)\.", lambda m: f"backbone.ori_CMI_{m[1].title()}."),
    (
        r"^cross_modal_consistency\.levels\.(\d+)\.interaction\.(\w+)\.",
        lambda m: f"backbone.CMI_{m[2].title()}.{int(m[1]) - 1}.",
    ),
    (r"^cross_modal_consistency\.levels\.(\d+)\.gates\.(\w+)\.gate\.", r"backbone.\2_TCG.\1.gate_linear.conv."),
    (r"^cross_modal_consistency\.levels\.(\d+)\.gates\.(\w+)\.", r"backbone.\2_TCG.\1."),
    (r"^coarse_to_fine\.stretch\.", "MTGC_block.C2F_linear."),
    (r"^coarse_to_fine\.block\.", "MTGC_block.C2F_attention."),
    (r"^dependencies\.press\.", "MTGC_block.feature_tem_press.conv."),
    (r"^dependencies\.context\.(\d+)\.block\.", r"MTGC_block.channel_att.\1."),
    (r"^dependencies\.context\.(\d+)\.linear\.", r"MTGC_block.feature_tem_block.\1."),
    (r"^dependencies\.", "MTGC_block."),
    (r"^fine_to_coarse\.blocks\.", "MTGC_block.F2C_attention_block."),
]
_PAIR = {"visual": "Va", "audio": "Av"}  # whose keys and values, then whose queries
_UNAV: Names = [
    (r"^interactions\.0\.(\w+)\.", lambda m: f"backbone.ori_cross_att_{_PAIR[m[1]]}."),
    (r"^interactions\.(\d+)\.(\w+)\.", lambda m: f"backbone.cross_att_{_PAIR[m[2]]}.{int(m[1]) - 1}."),
    (r"^dependencies\.", "dependency_block."),
]
_COMMON: Names = [
    (r"^embed\.(visual|audio)\.convs\.(\d)\.", lambda m: f"backbone.embd_{m[1][0].upper()}.{m[2]}.conv."),
    (r"^embed\.(visual|audio)\.norms\.", lambda m: f"backbone.embd_norm_{m[1][0].upper()}."),
    (r"^embed\.(visual|audio)\.blocks\.", lambda m: f"backbone.self_att_{m[1][0].upper()}."),
    (r"^(\w+_block)\.expand\.", r"\1.feature_expand.conv."),
    (r"^(\w+_block)\.squeeze\.", r"\1.feature_squeeze.conv."),
    (r"^(\w+_block)\.temporal\.", r"\1.temporal_branch."),
    (r"^(\w+_block)\.cooccurrence\.", r"\1.cooccur_branch."),
    (r"^decoder\.classify\.convs\.(\d)\.", r"cls_head.head.\1.conv."),
    (r"^decoder\.classify\.norms\.", "cls_head.norm."),
    (r"^decoder\.classify\.out\.", "cls_head.cls_head.conv."),
    (r"^decoder\.regress\.convs\.(\d)\.", r"reg_head.head.\1.conv."),
    (r"^decoder\.regress\.norms\.", "reg_head.norm."),
    (r"^decoder\.regress\.out\.", "reg_head.offset_head.conv."),
    (r"\.norm_source\.", ".ln11."),
    (r"\.norm_query\.", ".ln12."),
    (r"\.norm\.(weight|bias)$", r".ln2.\1"),
    (r"\.attention\.", ".attn."),
    (r"\.attn\.convs\.(\w+)\.", r".attn.\1_conv.conv."),
    (r"\.attn\.norms\.(\w+)\.", r".attn.\1_norm."),
    (r"\.attn\.linears\.(\w+)\.", r".attn.\1."),
    (r"\.attn\.out\.", ".attn.proj."),
    (r"_TCG\.(\d+)\.attn\.", r"_TCG.\1."),
    (r"\.mlp\.2\.", ".mlp.3."),
    (r"\.drop_attention\.", ".drop_path_attn."),
    (r"\.drop_mlp\.", ".drop_path_mlp."),
]
NAMES: dict[str, Names] = {"ccnet": _CCNET + _COMMON, "unav": _UNAV + _COMMON}


def from_published(checkpoint: Mapping[str, Any], max_length: int | None = None) -> CCNet | Unav:
    """A model of ours with the weights of a released checkpoint; its kind and sizes are read from its tensors.

    `checkpoint` is a state dict, or holds one as `state_dict_ema` (taken first) or `state_dict`; a leading `module.`
    of names is dropped. `max_length` is needed for `unav` only, whose weights do not tell it (default: the released
    224). ConfigError if a tensor is missing, left over or of a shape that does not fit.
    """
    tensors = _tensors(checkpoint)
    kind = "unav" if any(key.startswith("dependency_block.") for key in tensors) else "ccnet"
    if kind == "ccnet" and max_length is not None:
        raise ConfigError("max_length follows from the weights of a ccnet checkpoint: leave it out")
    model = CCNet(_ccnet_config(tensors)) if kind == "ccnet" else Unav(_unav_config(tensors, max_length or 224))
    state = {}
    for ours, parameter in model.state_dict().items():
        if ours == "decoder.scales":
            levels = [f"reg_head.scale.{level}.scale" for level in range(model.config.num_levels)]
            state[ours] = torch.stack([_take(tensors, key).reshape(()) for key in levels])
            continue
        theirs = published_name(ours, kind)
        if ".drop_path_" in theirs and theirs not in tensors:
            state[ours] = torch.ones_like(parameter)  # a block that was released without the scale
            continue
        state[ours] = _reshape(_take(tensors, theirs), parameter.shape, theirs)
    if tensors:
        raise ConfigError(f"not a released {kind} checkpoint: {len(tensors)} unknown tensors, first {min(tensors)!r}")
    model.load_state_dict(state)
    return model.eval()


def published_name(name: str, kind: str = "ccnet") -> str:
    """The released name of a parameter of ours."""
    for pattern, replacement in NAMES[kind]:
        name = re.sub(pattern, replacement, name)
    return name


def _tensors(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    state = next((checkpoint[key] for key in ("state_dict_ema", "state_dict") if key in checkpoint), checkpoint)
    if not isinstance(state, Mapping) or not all(isinstance(x, Tensor) for x in state.values()):
        raise ConfigError("not a released checkpoint: expected tensors by name, or a dict with `state_dict_ema`")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _shape(tensors: Mapping[str, Tensor], key: str) -> torch.Size:
    if key not in tensors:
        raise ConfigError(f"not a released checkpoint: {key!r} is missing")
    return tensors[key].shape


def _common_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    width, visual_dim, _ = _shape(tensors, "backbone.embd_V.0.conv.weight")
    return {
        "num_classes": _shape(tensors, "cls_head.cls_head.conv.weight")[0],
        "visual_dim": visual_dim,
        "audio_dim": _shape(tensors, "backbone.embd_A.0.conv.weight")[1],
        "width": width,
        "drop_path": 0.1 if any(".drop_path_" in key for key in tensors) else 0.0,
    }


def _ccnet_config(tensors: Mapping[str, Tensor]) -> CCNetConfig:
    return CCNetConfig(
        **_common_fields(tensors),
        max_length=_shape(tensors, "MTGC_block.feature_tem_block.0.weight")[1],
        class_width=_shape(tensors, "MTGC_block.feature_tem_press.conv.weight")[0],
        num_levels=sum(bool(re.fullmatch(r"MTGC_block\.feature_tem_block\.\d+\.weight", key)) for key in tensors),
    )


def _unav_config(tensors: Mapping[str, Tensor], max_length: int) -> UnavConfig:
    fields = _common_fields(tensors)
    return UnavConfig(
        **fields,
        max_length=max_length,
        class_width=_shape(tensors, "dependency_block.feature_expand.conv.weight")[0] // fields["num_classes"],
        num_levels=sum(bool(re.fullmatch(r"reg_head\.scale\.\d+\.scale", key)) for key in tensors),
    )


def _take(tensors: dict[str, Tensor], key: str) -> Tensor:
    try:
        return tensors.pop(key)
    except KeyError:
        raise ConfigError(f"not a released checkpoint: {key!r} is missing") from None


def _reshape(theirs: Tensor, shape: torch.Size, key: str) -> Tensor:
    """Convolutions (out, in, 3) -> (out, 3 * in), depthwise (D, 1, 3) -> (3, D), norms (1, D, 1) -> (D), others
    (out, in, 1) -> (out, in)"""
    ours = theirs
    if theirs.dim() == 3 and theirs.shape[1:] == (1, 3) and shape == (3, theirs.shape[0]):
        ours = theirs[:, 0].T
    elif theirs.dim() == 3 and theirs.shape[2] == 3:
        ours = theirs.transpose(1, 2).flatten(1)
    elif theirs.dim() == 3 and theirs.shape[0] == 1 and len(shape) == 1:
        ours = theirs.flatten()
    elif theirs.dim() == 3:
        ours = theirs.squeeze(2)
    if ours.shape != shape:
        raise ConfigError(f"not a released checkpoint: {key!r} has a shape that does not fit, {tuple(theirs.shape)}")
    return ours.float().contiguous()

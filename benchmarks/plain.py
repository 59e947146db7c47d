"""The plain reference of the benchmarks: the same network, targets, suppression and average precision, written straight
from their definitions.

Channels come first, everything is padded to the network's whole length, attention is written out, points and
predictions are looped over. Weights are taken from one of davel's networks, so both can be held against each other.

Shapes: B videos, T steps, D channels, C classes, H channels of a class, P points, N segments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.core.events import EventList
from davel.models import blocks, ccnet
from davel.models import pyramid as network

RANGES = ((0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 10000))


class Conv(nn.Module):
    """Convolution over time whose outputs at padding are zero."""

    def __init__(self, ours: blocks.Conv) -> None:
        super().__init__()
        out, channels = ours.weight.shape[0], ours.weight.shape[1] // 3
        self.conv = nn.Conv1d(channels, out, 3, padding=1, bias=ours.bias is not None)
        self.conv.weight.data = ours.weight.detach().view(out, 3, channels).permute(0, 2, 1).clone()
        if ours.bias is not None:
            self.conv.bias.data = ours.bias.detach().clone()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.conv(x) * mask


class LayerNorm(nn.Module):
    """Over channels, which are the second axis."""

    def __init__(self, ours: nn.LayerNorm) -> None:
        super().__init__()
        self.eps = ours.eps
        self.weight = nn.Parameter(ours.weight.detach().clone()[None, :, None])
        self.bias = nn.Parameter(ours.bias.detach().clone()[None, :, None])

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred**2).mean(dim=1, keepdim=True)
        return centred / torch.sqrt(variance + self.eps) * self.weight + self.bias


def pointwise(ours: nn.Linear) -> nn.Conv1d:
    """A linear over channels as a convolution of kernel 1."""
    conv = nn.Conv1d(ours.in_features, ours.out_features, 1)
    conv.weight.data = ours.weight.detach().clone()[..., None]
    conv.bias.data = ours.bias.detach().clone()
    return conv


class Attention(nn.Module):
    def __init__(self, ours: blocks.MaskedAttention) -> None:
        super().__init__()
        self.num_heads = ours.num_heads
        self.convs, self.norms, self.linears = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for role in ("query", "key", "value"):
            weight = ours.convs[role].weight.detach()
            conv = nn.Conv1d(
                weight.shape[1], weight.shape[1], 3, ours.stride, padding=1, groups=weight.shape[1], bias=False
            )
            conv.weight.data = weight.T[:, None].clone()
            self.convs[role] = conv
            self.norms[role] = LayerNorm(ours.norms[role])
            self.linears[role] = pointwise(ours.linears[role])
        self.out = pointwise(ours.out)

    def forward(self, source: Tensor, query: Tensor, mask: Tensor, exclude_padding: bool = True) -> Tensor:
        """2 x (B, D, T), mask (B, 1, T / stride) -> (B, D, T / stride)"""
        x = {"query": query, "key": source, "value": source}
        x = {role: self.linears[role](self.norms[role](self.convs[role](x[role]) * mask)) for role in x}
        x["value"] = x["value"] * mask
        B, D, T = x["query"].shape
        q, k, v = (x[role].view(B, self.num_heads, -1, T).transpose(2, 3) for role in ("query", "key", "value"))
        logits = (q @ k.transpose(2, 3)) / math.sqrt(D // self.num_heads)  # (B, heads, T, T)
        if exclude_padding:
            logits = logits.masked_fill(~mask[:, None], -math.inf)
        y = torch.softmax(logits, dim=-1) @ v
        return self.out(y.transpose(2, 3).reshape(B, D, T)) * mask


class DropPath(nn.Module):
    def __init__(self, ours: blocks.DropPath) -> None:
        super().__init__()
        self.probability = ours.probability
        self.scale = nn.Parameter(ours.scale.detach().clone()[None, :, None])

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        return x / keep * (torch.rand(len(x), 1, 1, device=x.device) < keep)


def drop_path(ours: nn.Module) -> nn.Module:
    return DropPath(ours) if isinstance(ours, blocks.DropPath) else nn.Identity()


class Block(nn.Module):
    def __init__(self, ours: blocks.Block) -> None:
        super().__init__()
        self.stride = ours.stride
        self.norm_source, self.norm_query = LayerNorm(ours.norm_source), LayerNorm(ours.norm_query)
        self.norm = LayerNorm(ours.norm)
        self.attention = Attention(ours.attention)
        self.mlp = nn.Sequential(pointwise(ours.mlp[0]), nn.GELU(), pointwise(ours.mlp[2]))
        self.pool = nn.MaxPool1d(3, 2, 1) if ours.stride == 2 else nn.Identity()
        self.drop_attention, self.drop_mlp = drop_path(ours.drop_attention), drop_path(ours.drop_mlp)

    def forward(self, source: Tensor, query: Tensor, mask: Tensor) -> Tensor:
        mask = mask[..., :: self.stride]
        y = self.attention(self.norm_source(source), self.norm_query(query), mask)
        y = self.pool(source) * mask + self.drop_attention(y)
        return y + self.drop_mlp(self.mlp(self.norm(y)) * mask)


class Stem(nn.Module):
    """Convolutions, each with a norm and a ReLU."""

    def __init__(self, ours: network.Embedding | network.Head) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Conv(conv) for conv in ours.convs)
        self.norms = nn.ModuleList(LayerNorm(norm) for norm in ours.norms)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x, mask)))
        return x


class Embedding(nn.Module):
    def __init__(self, ours: network.Embedding) -> None:
        super().__init__()
        self.stem = Stem(ours)
        self.blocks = nn.ModuleList(Block(block) for block in ours.blocks)
        self.register_buffer("positions", ours.positions.T[None].clone())

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.stem(x, mask)
        x = x + self.positions * mask
        for block in self.blocks:
            x = block(x, x, mask)
        return x


class Gate(nn.Module):
    def __init__(self, ours: ccnet.TemporalConsistencyGate) -> None:
        super().__init__()
        self.norm_source, self.norm_query = LayerNorm(ours.norm_source), LayerNorm(ours.norm_query)
        self.attention, self.gate = Attention(ours.attention), pointwise(ours.gate)
        self.exclude_padding = ours.padded_length is None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.attention(self.norm_source(x), self.norm_query(x), mask, self.exclude_padding)
        return torch.sigmoid(self.gate(y))


class Dependencies(nn.Module):
    """TDM, level by level."""

    def __init__(self, ours: ccnet.TemporalDependencies) -> None:
        super().__init__()
        self.C = ours.C
        self.expand, self.press, self.squeeze = Conv(ours.expand), Conv(ours.press), Conv(ours.squeeze)
        self.context_blocks = nn.ModuleList(Block(context.block) for context in ours.context)
        self.context_linears = nn.ModuleList(pointwise(context.linear) for context in ours.context)
        self.temporal, self.cooccurrence = Block(ours.temporal), Block(ours.cooccurrence)

    def forward(self, x: Tensor, mask: Tensor, level: int) -> Tensor:
        B, _, T = x.shape
        own = torch.relu(self.expand(x, mask)).view(B, self.C, -1, T)
        tokens = torch.relu(self.press(x, mask)).transpose(1, 2)  # (B, T, H): T channels, H tokens
        H = tokens.shape[2]
        tokens = self.context_blocks[level](tokens, tokens, torch.ones(B, 1, H, dtype=torch.bool, device=x.device))
        told = torch.relu(self.context_linears[level](tokens)).transpose(1, 2)  # (B, H, C * T)
        e = own + told.reshape(B, self.C, H, T)
        sequences = e.reshape(B * self.C, H, T)
        along_time = self.temporal(sequences, sequences, mask.repeat_interleave(self.C, dim=0))
        steps = e.permute(0, 3, 2, 1).reshape(B * T, H, self.C)
        everything = torch.ones(B * T, 1, self.C, dtype=torch.bool, device=x.device)
        across = self.cooccurrence(steps, steps, everything).view(B, T, H, self.C).permute(0, 3, 2, 1)
        across = across.reshape(B, self.C * H, T) * mask
        return self.squeeze(along_time.reshape(B, self.C * H, T) + across, mask)


class Head(nn.Module):
    def __init__(self, ours: network.Head) -> None:
        super().__init__()
        self.stem, self.out = Stem(ours), Conv(ours.out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.out(self.stem(x, mask), mask)


class PlainCCNet(nn.Module):
    """CCNet with the weights of one of davel's."""

    def __init__(self, ours: ccnet.CCNet) -> None:
        super().__init__()
        self.length, self.L = ours.config.max_length, ours.config.num_levels
        self.embed = nn.ModuleDict({m: Embedding(ours.embed[m]) for m in ("visual", "audio")})
        levels = ours.cross_modal_consistency.levels
        self.interaction = nn.ModuleList(
            nn.ModuleDict({m: Block(level.interaction[m]) for m in ("visual", "audio")}) for level in levels
        )
        self.gates = nn.ModuleList(
            nn.ModuleDict({m: Gate(level.gates[m]) for m in ("visual", "audio")}) for level in levels
        )
        self.stretch = nn.ModuleList()
        for ours_stretch in ours.coarse_to_fine.stretch:
            stretch = nn.Linear(*reversed(ours_stretch.weight.shape))
            stretch.load_state_dict(ours_stretch.state_dict())
            self.stretch.append(stretch)
        self.coarse_to_fine = Block(ours.coarse_to_fine.block)
        self.dependencies = Dependencies(ours.dependencies)
        self.fine_to_coarse = nn.ModuleList(Block(block) for block in ours.fine_to_coarse.blocks)
        self.pool = nn.MaxPool1d(3, 2, 1)
        self.classify, self.regress = Head(ours.decoder.classify), Head(ours.decoder.regress)
        self.scales = nn.Parameter(ours.decoder.scales.detach().clone())

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(B, Dv, T), (B, Da, T), (B, T) at the whole length -> per level logits (B, Tl, C), offsets (B, Tl, C, 2)"""
        masks = [mask[:, None, :: 2**level] for level in range(self.L)]
        v, a = self.embed["visual"](visual, masks[0]), self.embed["audio"](audio, masks[0])
        pyramid = []
        for level in range(self.L):
            mask_in = masks[max(level - 1, 0)]
            crossed_v = self.interaction[level]["visual"](v, a, mask_in)
            crossed_a = self.interaction[level]["audio"](a, v, mask_in)
            gate_v = self.gates[level]["visual"](v, masks[level])
            gate_a = self.gates[level]["audio"](a, masks[level])
            v, a = crossed_v + gate_a * crossed_v, crossed_a + gate_v * crossed_a
            pyramid.append(torch.cat([v, a], dim=1))
        refined = [
            self.coarse_to_fine(pyramid[level], torch.relu(self.stretch[level](pyramid[level + 1])), masks[level])
            for level in range(self.L - 1)
        ]
        refined.append(pyramid[-1])
        refined = [self.dependencies(x, masks[level], level) for level, x in enumerate(refined)]
        out = [refined[0]]
        for level in range(1, self.L):
            pooled = self.pool(out[-1])
            out.append(refined[level] + self.fine_to_coarse[level - 1](pooled, refined[level], masks[level]))
        logits = [self.classify(x, masks[level]).transpose(1, 2) for level, x in enumerate(out)]
        offsets = []
        for level, x in enumerate(out):
            y = torch.relu(self.regress(x, masks[level]) * self.scales[level])
            offsets.append(y.transpose(1, 2).unflatten(-1, (-1, 2)))
        return logits, offsets


def pad(x: Tensor, length: int) -> Tensor:
    """(B, T, D) -> (B, D, length)"""
    return F.pad(x.transpose(1, 2), (0, length - x.shape[1])).contiguous()


def assign(
    num_steps: int, segments: Sequence[np.ndarray], labels: Sequence[np.ndarray], num_classes: int
) -> tuple[Tensor, Tensor]:
    """Per video events (N, 2) in steps and their classes (N,) -> classes (B, P, C), offsets (B, P, C, 2)"""
    lengths = [math.ceil(num_steps / 2**level) for level in range(len(RANGES))]
    P = sum(lengths)
    classes = torch.zeros(len(segments), P, num_classes, dtype=torch.bool)
    offsets = torch.zeros(len(segments), P, num_classes, 2)
    for b, (events, event_labels) in enumerate(zip(segments, labels, strict=True)):
        point = 0
        for level, (low, high) in enumerate(RANGES):
            for i in range(lengths[level]):
                t = i * 2**level
                for (start, end), label in zip(events, event_labels, strict=True):
                    to_start, to_end = t - start, end - t
                    if min(to_start, to_end) > 0 and low <= max(to_start, to_end) <= high:
                        classes[b, point, label] = True
                        offsets[b, point, label, 0] = float(to_start / 2**level)
                        offsets[b, point, label, 1] = float(to_end / 2**level)
                point += 1
    return classes, offsets


def losses(logits: Tensor, offsets: Tensor, mask: Tensor, classes: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(B, P, C), (B, P, C, 2), real points (B, P), targets -> the sums of both losses"""
    truth = classes.float()
    score = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    right = score * truth + (1 - score) * (1 - truth)
    weight = 0.25 * truth + 0.75 * (1 - truth)
    classification = (weight * (1 - right) ** 2 * cross_entropy * mask[..., None]).sum()
    positive = classes & mask[..., None]
    (ps, pe), (ts, te) = offsets[positive].unbind(-1), target[positive].unbind(-1)
    overlap = torch.min(ps, ts) + torch.min(pe, te)
    union = ps + pe + ts + te - overlap
    enclosing = torch.max(ps, ts) + torch.max(pe, te)
    distance = 0.5 * (pe - ps - te + ts)
    regression = 1 - overlap / union.clamp(min=1e-8) + (distance / enclosing.clamp(min=1e-8)) ** 2
    return classification, regression.sum()


def decode(
    logits: Sequence[Tensor], offsets: Sequence[Tensor], num_steps: int, timing: tuple[float, int, int], duration: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One video: per level (Tl, C) and (Tl, C, 2) -> its best 100 segments (N, 2) in seconds, scores and classes"""
    segments, scores, classes = [], [], []
    for level, (logit, offset) in enumerate(zip(logits, offsets, strict=True)):
        T = math.ceil(num_steps / 2**level)
        score = torch.sigmoid(logit[:T]).flatten()
        order = torch.argsort(score, descending=True)
        order = order[score[order] > 0.001][:2000]
        step, label = order // logit.shape[1], order % logit.shape[1]
        reach = offset[:T][step, label] * 2**level
        segment = torch.stack([step * 2**level - reach[:, 0], step * 2**level + reach[:, 1]], dim=1)
        long = segment[:, 1] - segment[:, 0] > 0.05
        segments.append(segment[long].numpy())
        scores.append(score[order][long].numpy())
        classes.append(label[long].numpy())
    segment_of, score_of, label_of = np.concatenate(segments), np.concatenate(scores), np.concatenate(classes)
    kept_segments, kept_scores, kept_labels = [], [], []
    for c in np.unique(label_of):
        left, left_scores = segment_of[label_of == c].copy(), score_of[label_of == c].copy()
        for _ in range(100):
            if len(left) == 0:
                break
            best = int(left_scores.argmax())
            chosen = left[best]
            kept_segments.append(chosen)
            kept_scores.append(left_scores[best])
            kept_labels.append(c)
            left, left_scores = np.delete(left, best, axis=0), np.delete(left_scores, best)
            overlap = np.minimum(left[:, 1], chosen[1]) - np.maximum(left[:, 0], chosen[0])
            overlap = np.maximum(overlap, 0)
            union = (left[:, 1] - left[:, 0] + 1e-6) + (chosen[1] - chosen[0] + 1e-6) - overlap
            left_scores = left_scores * np.exp(-((overlap / union) ** 2) / 0.4)
            left, left_scores = left[left_scores >= 0.001], left_scores[left_scores >= 0.001]
    best = np.argsort(-np.array(kept_scores), kind="stable")[:100]
    fps, stride, window = timing[:3]
    seconds = ((np.array(kept_segments)[best] * stride + window / 2) / fps).clip(0, duration)
    return seconds, np.array(kept_scores)[best], np.array(kept_labels)[best]


def _distinct(segments: np.ndarray) -> np.ndarray:
    """Without those that repeat an earlier one, to a thousandth of a second."""
    kept: list[np.ndarray] = []
    for segment in segments:
        if not any((np.abs(segment - other) <= 1e-3).all() for other in kept):
            kept.append(segment)
    return np.stack(kept)


def average_precision(
    predicted: Mapping[str, EventList], truth: Mapping[str, EventList], num_classes: int, thresholds: Sequence[float]
) -> np.ndarray:
    """(S, C): class by class, one prediction after the other, best first; as ActivityNet's evaluation goes"""
    result = np.full((len(thresholds), num_classes), np.nan)
    for c in range(num_classes):
        true = {}
        for key, events in truth.items():
            if (mine := events.segments[events.label_ids == c]).size:
                true[key] = _distinct(mine)
        num_true = sum(map(len, true.values()))
        if not num_true:
            continue
        rows = [
            (score, key, segment)
            for key, events in predicted.items()
            for score, segment, label in zip(events.scores, events.segments, events.label_ids, strict=True)
            if label == c
        ]
        rows.sort(key=lambda row: -row[0])
        taken = {key: np.zeros((len(thresholds), len(events)), bool) for key, events in true.items()}
        right = np.zeros((len(thresholds), len(rows)), bool)
        for i, (_, key, segment) in enumerate(rows):
            if key not in true:
                continue
            overlap = np.minimum(segment[1], true[key][:, 1]) - np.maximum(segment[0], true[key][:, 0])
            overlap = np.maximum(overlap, 0)
            iou = overlap / (segment[1] - segment[0] + true[key][:, 1] - true[key][:, 0] - overlap)
            order = np.argsort(-iou, kind="stable")
            for s, threshold in enumerate(thresholds):
                for j in order:
                    if iou[j] < threshold:
                        break
                    if not taken[key][s, j]:
                        taken[key][s, j] = right[s, i] = True
                        break
        for s in range(len(thresholds)):
            found = np.cumsum(right[s])
            precision = np.append(found / np.arange(1, len(rows) + 1), 0.0)
            recall = found / num_true
            for i in range(len(rows) - 1, -1, -1):
                precision[i] = max(precision[i], precision[i + 1])
            steps = np.flatnonzero(np.diff(np.append(0.0, recall)))
            result[s, c] = sum(precision[i] / num_true for i in steps)
    return result

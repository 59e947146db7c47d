"""Non-maximum suppression of scored segments, all classes at once.

Shapes: N segments, C classes, M the most segments of one class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from davel.models.detector import NmsSettings

__all__ = ["Floats", "NmsSettings", "nms"]

Floats = NDArray[np.floating]


def nms(
    segments: Floats, scores: Floats, labels: NDArray[np.integer], settings: NmsSettings
) -> tuple[Floats, Floats, NDArray[np.integer]]:
    """(N, 2), (N,), (N,) -> the kept ones, best first."""
    if len(segments) == 0:
        return segments, scores, labels
    if settings.method == "none":
        best = np.argsort(-scores, kind="stable")[: settings.max_events]
        return segments[best], scores[best], labels[best]
    groups = labels if settings.per_class else np.zeros_like(labels)
    index = _by_group(groups, scores)  # (C, M), -1 where a class has fewer
    kept, kept_scores = _suppress(segments[index], np.where(index >= 0, scores[index], 0), settings)
    rows = np.arange(len(index))[:, None]
    chosen = np.where(kept >= 0, index[rows, kept], -1)
    chosen, kept_scores = chosen[kept >= 0], kept_scores[kept >= 0]
    best = np.argsort(-kept_scores, kind="stable")[: settings.max_events]
    chosen, kept_scores = chosen[best], kept_scores[best]
    result = segments[chosen]
    if not settings.per_class and settings.voting_threshold > 0:
        result = _vote(result, segments, scores, settings.voting_threshold)
    return result, kept_scores, labels[chosen]


def _by_group(groups: NDArray[np.integer], scores: Floats) -> NDArray[np.int64]:
    """Indices of each group's segments, best first, side by side: (C, M)"""
    order = np.lexsort((-scores, groups))
    _, start, count = np.unique(groups[order], return_index=True, return_counts=True)
    column = np.arange(count.max())
    index = order[np.minimum(start[:, None] + column, len(order) - 1)]
    return np.where(column < count[:, None], index, -1)


def _suppress(segments: Floats, scores: Floats, settings: NmsSettings) -> tuple[NDArray[np.int64], Floats]:
    """(C, M, 2), (C, M) -> columns that are kept (C, K), -1 where none, and their scores (C, K)"""
    C, M = scores.shape
    rows = np.arange(C)
    scores = scores.copy()
    lengths = segments[..., 1] - segments[..., 0] + 1e-6
    kept, kept_scores = [], []
    for _ in range(min(settings.max_events, M)):
        best = scores.argmax(1)  # (C,)
        best_score = scores[rows, best]
        alive = best_score > 0
        if not alive.any():
            break
        kept.append(np.where(alive, best, -1))
        kept_scores.append(best_score)
        scores[rows, best] = 0
        start, end = segments[rows, best].T[..., None]  # (C, 1) each
        overlap = (np.minimum(segments[..., 1], end) - np.maximum(segments[..., 0], start)).clip(min=0)
        iou = overlap / (lengths + lengths[rows, best, None] - overlap)
        scores *= np.exp(-(iou**2) / settings.sigma) if settings.method == "soft" else iou < settings.iou_threshold
        scores[scores < settings.min_score] = 0
    if not kept:
        return np.empty((C, 0), np.int64), np.empty((C, 0), scores.dtype)
    return np.stack(kept, 1), np.stack(kept_scores, 1)


def _vote(kept: Floats, segments: Floats, scores: Floats, threshold: float) -> Floats:
    """Each kept segment (K, 2) becomes the mean of all (N, 2) that overlap it enough, weighed by score."""
    start = np.maximum(kept[:, None, 0], segments[:, 0])
    end = np.minimum(kept[:, None, 1], segments[:, 1])
    overlap = (end - start).clip(min=0)  # (K, N)
    iou = overlap / (np.diff(kept) + np.diff(segments)[:, 0] - overlap)
    weight = (iou >= threshold) * scores
    return np.asarray(weight @ segments / weight.sum(1, keepdims=True))

"""Evaluation: what a model finds in annotated videos, and how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from davel.core.lazy import attributes

if TYPE_CHECKING:
    from davel.evaluate.evaluation import ANALYSED, Evaluation, differences, evaluate, match_videos, score
    from davel.evaluate.files import read_predictions
    from davel.evaluate.options import EvaluateOptions
    from davel.evaluate.prediction import predict, predict_published
    from davel.evaluate.source import Evaluated, evaluate_source

__all__ = [
    "ANALYSED",
    "EvaluateOptions",
    "Evaluated",
    "Evaluation",
    "differences",
    "evaluate",
    "evaluate_source",
    "match_videos",
    "predict",
    "predict_published",
    "read_predictions",
    "score",
]

_HOMES = {
    "evaluation": ("ANALYSED", "Evaluation", "differences", "evaluate", "match_videos", "score"),
    "files": ("read_predictions",),
    "options": ("EvaluateOptions",),
    "prediction": ("predict", "predict_published"),
    "source": ("Evaluated", "evaluate_source"),
}

__getattr__ = attributes(__name__, _HOMES)

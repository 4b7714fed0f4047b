"""Metrics, each with its published definition."""

from .alignment import Alignment, align_to
from .metrics import pose_auc, pose_error
from .names import match_names
from .poses import BENCHMARK_THRESHOLDS, Evaluation, PoseError, evaluate, format_table

__all__ = [
    "BENCHMARK_THRESHOLDS",
    "Alignment",
    "Evaluation",
    "PoseError",
    "align_to",
    "evaluate",
    "format_table",
    "match_names",
    "pose_auc",
    "pose_error",
]

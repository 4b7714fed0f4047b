"""The self-contained HTML page that every pipeline writes, and the record of its stages."""

from .data import MatchPicture, ReportData, Scene, pick_queries
from .page import write_report
from .stages import StageLog, StageRecord

__all__ = [
    "MatchPicture",
    "ReportData",
    "Scene",
    "StageLog",
    "StageRecord",
    "pick_queries",
    "write_report",
]

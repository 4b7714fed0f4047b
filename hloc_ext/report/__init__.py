"""The self-contained HTML page that every pipeline writes, and the record of its stages."""

from .data import (
    Card,
    Chart,
    MatchPicture,
    Picture,
    PictureGroup,
    ReportData,
    Scene,
    Swipe,
    SwipeGroup,
    Table,
    pick_queries,
)
from .page import write_report
from .stages import StageLog, StageRecord

__all__ = [
    "Card",
    "Chart",
    "MatchPicture",
    "Picture",
    "PictureGroup",
    "ReportData",
    "Scene",
    "StageLog",
    "StageRecord",
    "Swipe",
    "SwipeGroup",
    "Table",
    "pick_queries",
    "write_report",
]

"""Answers kept ready: folds of the log into views that can be deleted and rebuilt at will."""

from .building import Records, catch_up, rebuild
from .errors import BeyondTheLog, UnknownNotice, ViewsFailed, ViewsGap
from .filters import TaskFilters
from .findings import Finding, Verification
from .notices_view import DisabledEndpoint, NoticeStatus
from .queries import TaskQueries
from .stats import Stats
from .views import TaskViews

__all__ = [
    "BeyondTheLog",
    "DisabledEndpoint",
    "Finding",
    "NoticeStatus",
    "Records",
    "Stats",
    "TaskFilters",
    "TaskQueries",
    "TaskViews",
    "UnknownNotice",
    "Verification",
    "ViewsFailed",
    "ViewsGap",
    "catch_up",
    "rebuild",
]

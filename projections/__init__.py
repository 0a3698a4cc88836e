"""Answers kept ready: folds of the log into views that can be deleted and rebuilt at will."""

from .building import Records, catch_up, rebuild
from .errors import BeyondTheLog, ViewsFailed, ViewsGap
from .filters import TaskFilters
from .findings import Finding, Verification
from .queries import TaskQueries
from .stats import Stats
from .views import TaskViews

__all__ = [
    "BeyondTheLog",
    "Finding",
    "Records",
    "Stats",
    "TaskFilters",
    "TaskQueries",
    "TaskViews",
    "Verification",
    "ViewsFailed",
    "ViewsGap",
    "catch_up",
    "rebuild",
]

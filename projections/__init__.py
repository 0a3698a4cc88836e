"""Folds of the log into views, which hold answers ready and can be deleted and rebuilt at any time."""

from .errors import BeyondTheLog, UnknownNotice, ViewsDamaged, ViewsFailed, ViewsGap
from .findings import Finding
from .queries.batches import Batch
from .queries.diff import TaskChange, TaskChanges
from .queries.filters import TaskFilters
from .queries.forgettable import Forgotten
from .queries.reader import TaskQueries
from .queries.stats import Stats
from .rebuilding import Rebuilt
from .verification import Verification, WrittenBy
from .views.notice_table import DisabledEndpoint, NoticeStatus
from .views.rebuild import catch_up, rebuild_views
from .views.writer import TaskViews

__all__ = [
    "Batch",
    "BeyondTheLog",
    "DisabledEndpoint",
    "Finding",
    "Forgotten",
    "NoticeStatus",
    "Rebuilt",
    "Stats",
    "TaskChange",
    "TaskChanges",
    "TaskFilters",
    "TaskQueries",
    "TaskViews",
    "UnknownNotice",
    "Verification",
    "ViewsDamaged",
    "ViewsFailed",
    "ViewsGap",
    "WrittenBy",
    "catch_up",
    "rebuild_views",
]

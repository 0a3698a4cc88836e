"""Whatever is folded from the log, folded once more beside what is there, and compared: views and snapshots."""

from collections.abc import Callable

from msgspec.structs import replace

from ..events.log.event_log import ReadableLog
from ..paths import DataPaths
from ..projections.rebuilding import Rebuilt, build_beside


def rebuild_beside(log: ReadableLog, paths: DataPaths, progress: Callable[[int, int], None] | None = None) -> Rebuilt:
    """Build the views beside the live ones and drop snapshots that have drifted. Says what differed."""
    from ..actors.snapshots import drop_drifted  # it imports much that the rest of a reader does not need

    built = build_beside(log, paths.views, progress)
    return replace(built, differences=(*built.differences, *drop_drifted(log, paths.snapshots)))

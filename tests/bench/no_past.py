"""Views without the tables of the past, as a yardstick: in this process, or as the Projector's own (`-m no_past`)."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from tasktrail.actors import projector_process
from tasktrail.events import Recorded
from tasktrail.projections.views import writer
from tasktrail.projections.views.fold import Change
from tasktrail.projections.views.rows import Standing, standing
from tasktrail.projections.views.versions import Versions


class NoPast(Versions):
    """Writes nothing."""

    def write(
        self, _records: Sequence[Recorded], changes: Sequence[Change], changed: Mapping[int, int]
    ) -> dict[int, Standing]:
        """Return the standings alone."""
        reached: dict[int, Standing] = {}
        for change in changes:
            task_id = change.after.id
            before = reached[task_id][-1] if task_id in reached else changed.get(task_id, 0)
            reached[task_id] = standing(change.after, change.position if change.own else before)
        return reached


@contextmanager
def without_past() -> Iterator[None]:
    """Have views folded without it, here and in the process of a Projector that is started here."""
    with patch.object(writer, "Versions", NoPast), patch.object(projector_process, "MODULE", __name__):
        yield


if __name__ == "__main__":
    with without_past():
        projector_process.main(*sys.argv[1:])

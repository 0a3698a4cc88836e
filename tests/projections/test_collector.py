"""Python's garbage collector waits while records are folded, and works again afterwards."""

import gc
import subprocess
import sys
from typing import Any

import pytest
from histories import Journal

from tasktrail.events.collector import collector_waits
from tasktrail.projections import TaskViews
from tasktrail.projections.views import writer
from tasktrail.projections.views.fold import fold_batch


def test_the_collector_waits_while_a_batch_is_folded(history: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    working: list[bool] = []

    def noting(*args: Any) -> Any:
        working.append(gc.isenabled())
        return fold_batch(*args)

    monkeypatch.setattr(writer, "fold_batch", noting)

    TaskViews(":memory:").apply(history.records)

    assert working == [False]
    assert gc.isenabled()


def test_it_works_again_after_an_error() -> None:
    with pytest.raises(KeyError), collector_waits():
        raise KeyError

    assert gc.isenabled()


def test_it_is_left_off_where_it_was_off() -> None:
    with collector_waits():
        with collector_waits():
            assert not gc.isenabled()
        assert not gc.isenabled()  # the outer work goes on

    assert gc.isenabled()


_FORKED = """
import gc, os
from tasktrail.events.collector import collector_waits

def works_in_child():
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os._exit(not gc.isenabled())

with collector_waits():
    print(works_in_child(), gc.isenabled())
gc.disable()
with collector_waits():
    print(works_in_child())
"""


def test_a_process_that_a_user_forks_meanwhile_has_its_collector() -> None:
    """The thread that would have switched it on again is not in the child, whose garbage stayed for ever."""
    done = subprocess.run([sys.executable, "-c", _FORKED], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "False", "False"], "where the user has switched it off, it stays so"

"""Python's garbage collector waits while records are folded, and works again afterwards."""

import gc
from typing import Any

import pytest
from histories import Journal

from tasktrail.projections import TaskViews
from tasktrail.projections.views import writer
from tasktrail.projections.views.collector import collector_waits
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

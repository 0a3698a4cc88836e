"""Drain, close, and the fate of running attempts."""

from core_harness import Core

from tasktrail.actors.core.messages import Close
from tasktrail.actors.core.resources import Reserved
from tasktrail.events.errors import NotReady


def test_close_gives_back_what_was_reserved(core: Core) -> None:
    core.create(memory=5)
    core.tell(Close())
    assert core.state.reserved == Reserved()


def test_a_cancel_that_waits_for_publishing_is_answered_when_the_service_closes(core: Core) -> None:
    task_id = core.create()
    core.want_to_publish(task_id)
    assert core.cancel(task_id) is None
    core.tell(Close())
    (answer,) = [answer for answer in core.answers.values() if isinstance(answer, NotReady)]
    assert "stopped" in str(answer)

"""Commands about notices: recorded under task 0, refused when there is nothing to do, and without effect on tasks."""

import pytest
from core_harness import Core

from tasktrail.actors.core.messages import Delivered
from tasktrail.events import EnableEndpoint, RedeliverNotice
from tasktrail.events.errors import EndpointDisabled, UnknownEndpoint
from tasktrail.events.system_events import DeliveryAttempted, EndpointEnabled, RedeliveryRequested
from tasktrail.projections import UnknownNotice

HOOK = "https://example.org/hook"
WANTED = RedeliveryRequested(notice_id="n", task_id=1, channel="webhook", target=HOOK, told=3)
ENABLE = EnableEndpoint(target=HOOK, actor="ops", reason="it is back")


@pytest.fixture
def core() -> Core:
    made = Core()
    made.create(held=True)
    return made


def tell_gone(core: Core) -> None:
    attempt = DeliveryAttempted(
        notice_id="n", task_id=1, channel="webhook", target=HOOK, ok=False, final=True, disabled=True
    )
    core.tell(Delivered(attempt))


def test_a_redelivery_is_recorded_with_who_and_why_and_changes_no_task(core: Core) -> None:
    before = core.state.tasks[1]
    command = RedeliverNotice(task_id=1, notice_id="n", actor="ops", reason="lost it")
    accepted = core.send(command, redelivery=WANTED)
    (fact,) = core.facts
    assert (fact.task_id, fact.event, fact.actor, fact.reason) == (0, WANTED, "ops", "lost it")
    assert (accepted.task_id, accepted.position) == (1, core.state.position)
    assert core.state.tasks[1] == before


def test_a_notice_that_the_log_does_not_know_cannot_be_sent_again(core: Core) -> None:
    assert isinstance(core.ask(RedeliverNotice(task_id=1, notice_id="n")), UnknownNotice)
    assert core.facts == []


def test_nothing_is_sent_to_an_endpoint_that_is_gone_until_it_is_enabled(core: Core) -> None:
    tell_gone(core)
    command = RedeliverNotice(task_id=1, notice_id="n")
    assert isinstance(core.ask(command, redelivery=WANTED), EndpointDisabled)
    assert isinstance(core.again().ask(command, redelivery=WANTED), EndpointDisabled)
    core = core.again()
    assert core.send(ENABLE).task_id == 0
    (fact,) = core.facts
    assert (fact.task_id, fact.event, fact.actor) == (0, EndpointEnabled(target=HOOK), "ops")
    assert core.send(command, redelivery=WANTED)


def test_only_an_endpoint_that_is_gone_can_be_enabled_and_only_once(core: Core) -> None:
    assert isinstance(core.ask(ENABLE), UnknownEndpoint)
    tell_gone(core)
    core.send(ENABLE)
    assert isinstance(core.ask(ENABLE), UnknownEndpoint)
    assert core.facts == []

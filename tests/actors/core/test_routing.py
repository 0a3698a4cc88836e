"""A task that needs a worker's label runs where it is offered, and nowhere else; all others run anywhere."""

from typing import Any

from core_harness import Core
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.core.board import queue_board
from tasktrail.actors.core.explanation import WaitReason
from tasktrail.actors.core.routing import offers_of, pick
from tasktrail.events.errors import CannotStartNow
from tasktrail.events.reports import CapacityChanged, Run


def with_workers(*offers: tuple[str, ...], **settings: Any) -> Core:
    core = Core(slots=0, **settings)
    core.tell(CapacityChanged(len(offers), offers))
    return core


def offered(core: Core) -> list[tuple[int, tuple[str, ...]]]:
    """Return the attempts that the last message started, with the labels of their workers."""
    return [(order.task_id, order.offer) for order in core.orders if isinstance(order, Run)]


def reasons(core: Core, task_id: int) -> dict[str, str]:
    why = core.why(task_id)
    return {str(reason.reason): reason.detail for reason in why.reasons}


def test_of_each_label_so_many_workers_offer_it() -> None:
    assert offers_of({"gpu": 1, "big": 2}, 3) == (("big", "gpu"), ("big",), ())
    assert offers_of({"gpu": 5}, 1) == (("gpu",),)
    assert offers_of({}, 3) == ()


def test_the_worker_with_the_fewest_labels_is_taken() -> None:
    free = {("big", "gpu"): 1, ("gpu",): 1, (): 0}
    assert pick(free, "gpu") == ("gpu",)
    assert pick(free, "") == ("gpu",)
    assert pick(free, "big") == ("big", "gpu")
    assert pick({("gpu",): 0}, "gpu") is None


def test_tasks_without_a_label_leave_the_workers_with_labels_free_while_they_can() -> None:
    core = with_workers(("gpu",), (), ())
    for _ in range(3):
        core.create()
    core.create(worker_label="gpu")
    assert [entry.offer for entry in core.state.running.values()] == [(), (), ("gpu",)]
    assert reasons(core, 4)["WorkerLabel"] == "the worker with gpu is busy"
    core.end(1)
    assert core.running() == [2, 3], "a free worker without the label does not help"
    core.end(3)
    assert offered(core) == [(4, ("gpu",))]


def test_a_task_with_a_label_waits_for_it_while_others_start() -> None:
    core = with_workers(("gpu",), (), ())
    first, second = core.create(worker_label="gpu"), core.create(worker_label="gpu", priority=9)
    other = core.create()
    assert core.running() == [first, other]
    why = core.why(second)
    (reason,) = why.reasons
    assert reason.reason is WaitReason.WORKER_LABEL
    assert (reason.numbers, reason.tasks) == ({"workers": 1, "busy": 1}, (first,))
    assert reason.evidence == (core.state.running[first].started_position,)
    assert queue_board(core.state, core.now, 9).entries[0].shut_by == ("worker gpu",)
    assert queue_board(core.state, core.now, 9).resources.worker_labels == {"gpu": 1}
    refused = core.start(second)
    assert isinstance(refused, CannotStartNow)
    core.end(first)
    assert offered(core) == [(second, ("gpu",))]


def test_a_label_that_nobody_offers_is_said_and_waited_for() -> None:
    core = Core(slots=2)
    task_id = core.create(worker_label="gpu")
    assert reasons(core, task_id) == {"WorkerLabel": "no worker offers gpu"}
    assert core.why(task_id).reasons[0].lifts == 'a start of the service with `worker_labels = ["gpu=1"]`'
    core.tell(CapacityChanged(2, (("gpu",), ())))
    assert offered(core) == [(task_id, ("gpu",))]
    core.tell(CapacityChanged(2, (("gpu",), ("gpu",))))
    core.create(worker_label="gpu")
    third = core.create(worker_label="gpu")
    assert reasons(core, third)["WorkerLabel"] == "all 2 workers with gpu are busy"


def test_an_attempt_that_is_being_stopped_still_has_its_worker() -> None:
    core = with_workers(("gpu",), ())
    first, second = core.create(worker_label="gpu"), core.create(worker_label="gpu")
    core.cancel(first)
    assert core.running() == [first]
    core.end(first, "stopped")
    assert core.running() == [second]


_LABELS = st.sampled_from(["", "gpu", "big"])
_OFFERS = st.lists(st.sampled_from([(), ("gpu",), ("big",), ("big", "gpu")]), max_size=4)
_WHAT = st.sampled_from(["create", "create", "end", "workers"])
_STEPS = st.lists(st.tuples(_WHAT, st.integers(0, 9), _LABELS, _OFFERS))


@given(_OFFERS, _STEPS)
def test_no_worker_gets_two_attempts_or_one_that_needs_what_it_does_not_offer(
    first: list[tuple[str, ...]], steps: list[tuple[str, int, str, list[tuple[str, ...]]]]
) -> None:
    core, there = with_workers(*first), first
    for what, number, label, offers in steps:
        match what:
            case "create":
                core.create(worker_label=label, priority=number)
            case "end" if core.running():
                core.end(core.running()[number % len(core.running())])
            case "workers" if not core.running():
                there = offers
                core.tell(CapacityChanged(len(offers), tuple(offers)))
        given_to = [entry.offer for entry in core.state.running.values()]
        for entry in core.state.running.values():
            needs = core.state.tasks[entry.task_id].spec.worker_label
            assert not needs or needs in entry.offer
            assert given_to.count(entry.offer) <= there.count(entry.offer)
        free = {offer: there.count(offer) - given_to.count(offer) for offer in there}
        for task_id in core.state.queue:
            assert pick(free, core.state.tasks[task_id].spec.worker_label) is None, "it could start"

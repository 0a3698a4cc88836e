"""`why` names all the reasons: with all of them lifted the task starts, with any one of them left it waits.

The oracle is the core itself: each scenario is played again, some reasons are lifted, and a step is taken.
"""

from collections.abc import Callable

import pytest
from core_harness import Core
from hypothesis import Phase, event, given, settings
from why_worlds import Lifting, Scenario, scenarios

from tasktrail.actors.core import dispatch, explanation
from tasktrail.actors.core.explanation import Obstacle, WaitReason, obstacles
from tasktrail.events import Accepted, StartTask
from tasktrail.events.errors import CannotStartNow


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(scenarios)
def test_a_task_starts_when_exactly_the_reported_reasons_are_lifted_and_not_when_one_is_left(one: Scenario) -> None:
    check(one)


@pytest.mark.long
@settings(deadline=None, max_examples=800)
@given(scenarios)
def test_the_reasons_are_exact_in_many_more_worlds(one: Scenario) -> None:
    check(one)


def check(one: Scenario) -> None:
    """Check that the reported reasons hold the task, each of them, and nothing else does."""
    core, task_id = one.build()
    why = core.why(task_id)
    if not why.waiting:
        assert why.reasons == ()
        assert runs(core, task_id)
        return
    reasons = list(why.reasons)
    event(" ".join(sorted(reason.reason for reason in reasons)))
    assert reasons, "a task that waits for nothing would have started"
    for left in (None, *reasons):
        core, task_id = one.build()
        Lifting(core, task_id).lift([reason for reason in reasons if reason is not left])
        assert runs(core, task_id) == (left is None), f"{left} is left of {reasons}"
    for reason in reasons:
        if reason.reason is WaitReason.HIGHER_PRIORITY:
            check_named(one, reason.tasks, [other for other in reasons if other is not reason])


def check_named(one: Scenario, named: tuple[int, ...], others: list[Obstacle]) -> None:
    """Check the named tasks: with the other reasons lifted they alone keep it waiting, and each is needed for that."""
    core, task_id = one.build()
    Lifting(core, task_id).lift(others)
    for other in named:
        assert runs(core, other) or does_not_fit(core, other), f"{other} of {named} does not go first"
    for missing in (None, *named):
        core, task_id = one.build()
        lifting = Lifting(core, task_id)
        lifting.leave_only(tuple(other for other in named if other != missing))
        lifting.lift(others)
        assert runs(core, task_id) == (missing is not None), f"{missing} is missing of {named}"


def runs(core: Core, task_id: int) -> bool:
    """Return whether it has a slot and is not being stopped."""
    return core.state.tasks[task_id].status == "running"


def does_not_fit(core: Core, task_id: int) -> bool:
    """Return whether a reservation keeps it waiting: of room, or of a worker, if it needs one to itself."""
    state = core.state
    task = state.tasks[task_id]
    return not state.has_room(task) or bool(obstacles(task, state.limits, state.sample, state.reserved))


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(scenarios)
def test_a_reason_is_gone_once_its_commands_are_sent_as_they_are(one: Scenario) -> None:
    core, task_id = one.build()
    reasons = core.why(task_id).reasons
    for place, reason in enumerate(reasons):
        if not reason.commands:
            continue
        starts = (WaitReason.HIGHER_PRIORITY, WaitReason.RETRY_DELAY)
        if reason.reason in starts and reasons[0].reason is WaitReason.HELD:
            continue  # the first start releases it, the second one comes before the queue
        core, task_id = one.build()
        told = core.why(task_id).reasons[place]
        # Otherwise others would start in the new room, and it would be missing again.
        core.state.draining = not any(isinstance(command, StartTask) for command in told.commands)
        answers = [core.ask(command) for command in told.commands]
        if any(isinstance(answer, CannotStartNow) for answer in answers):
            assert len(core.why(task_id).reasons) > 1, "only what else holds it may keep it from starting"
            continue
        assert all(isinstance(answer, Accepted) for answer in answers), answers
        left = [(other.reason, other.detail.split(" of ")[-1]) for other in core.why(task_id).reasons]
        assert (told.reason, told.detail.split(" of ")[-1]) not in left, f"{told.commands} did not lift {told}"


Plant = Callable[[pytest.MonkeyPatch], None]


def _limits_untold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(explanation, "is_full", lambda *_: False)


def _pauses_untold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(explanation, "pauses_of", lambda *_: ())


def _order_untold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(explanation, "who_goes_first", lambda *_: ())


def _order_made_up(patch: pytest.MonkeyPatch) -> None:
    first = dispatch.who_goes_first
    patch.setattr(explanation, "who_goes_first", lambda state, task: first(state, task) or (99,))


def _one_resource_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(explanation, "obstacles", lambda *arguments: obstacles(*arguments)[:1])


def _misnamed(patch: pytest.MonkeyPatch) -> None:
    """Name other waiting tasks, as many as `why` should name: the last ones in the queue."""
    first = dispatch.who_goes_first
    patch.setattr(
        explanation,
        "who_goes_first",
        lambda state, task: tuple(state.queue.first(100)[::-1][: len(first(state, task))]),
    )


def _only_the_last_is_named(patch: pytest.MonkeyPatch) -> None:
    first = dispatch.who_goes_first
    patch.setattr(explanation, "who_goes_first", lambda state, task: first(state, task)[-1:])


def _all_that_wait_are_named(patch: pytest.MonkeyPatch) -> None:
    first = dispatch.who_goes_first
    patch.setattr(
        explanation,
        "who_goes_first",
        lambda state, task: first(state, task) and tuple(one for one in state.queue.first(100) if one != task.id),
    )


@pytest.mark.parametrize(
    "plant",
    [
        _limits_untold,
        _pauses_untold,
        _order_untold,
        _order_made_up,
        _one_resource_only,
        _misnamed,
        _only_the_last_is_named,
        _all_that_wait_are_named,
    ],
    ids=lambda plant: plant.__name__.strip("_"),
)
def test_an_explanation_that_leaves_out_or_makes_up_a_reason_is_found(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    @settings(deadline=None, max_examples=900, phases=[Phase.generate], database=None, derandomize=True)
    @given(scenarios)
    def checked(one: Scenario) -> None:
        check(one)

    with pytest.raises(AssertionError):
        checked()

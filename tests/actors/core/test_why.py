"""`why` names all the reasons: with all of them lifted the task starts, with any one of them left it waits.

The oracle is the core itself: each scenario is played again, some reasons are lifted in it, and a step is taken.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from core_harness import Core
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.actors.core import rehearsal, waiting
from tasktrail.actors.core import why as why_module
from tasktrail.actors.core.admission import Obstacle, Sample, WaitReason, obstacles
from tasktrail.actors.core.dependencies import retries
from tasktrail.actors.core.messages import LimitsChanged, Sampled, Tick
from tasktrail.actors.core.why import Why, explain
from tasktrail.events import Accepted, AdjustTask, RetryTask, StartTask
from tasktrail.events.errors import CannotStartNow
from tasktrail.events.operator_commands import PauseQueue, ResumeQueue, SetLimits
from tasktrail.handlers.process.frames import CapacityChanged

TYPES = ("work", "other")
GRACE = dict.fromkeys(TYPES, 0.5)

wishes = st.fixed_dictionaries(
    {
        "type": st.sampled_from(TYPES),
        "user_id": st.integers(0, 1),
        "label": st.sampled_from(["", "x"]),
        "priority": st.integers(0, 10),
        "memory": st.sampled_from([0, 1, 4, 6, 9, 12]),
        "temp": st.sampled_from([0, 0, 3, 9]),
    }
)
settings_of_a_world = st.fixed_dictionaries(
    {
        "slots": st.integers(1, 3),
        "max_memory": st.sampled_from([6, 10, 20]),
        "max_temp_size": st.sampled_from([5, 20]),
        "max_per_type": st.sampled_from([0, 0, 1, 2]),
        "max_per_user": st.sampled_from([0, 0, 1, 2]),
        "max_per_label": st.sampled_from([0, 0, 1]),
        "fair_share": st.booleans(),
    }
)
samples = st.builds(
    Sample,
    cpu_percent=st.sampled_from([5.0, 5.0, 95.0]),
    memory_available=st.sampled_from([3, 30, 30]),
    temp_free=st.sampled_from([2, 8, 30]),
    memory_total=st.just(30),
)
pauses = st.sampled_from([None, None, PauseQueue(), PauseQueue(type="work"), PauseQueue(user_id=1)])
holds = st.sampled_from(["", "", "held", "later", "dependency", "two dependencies"])


class Scenario:
    """A world that can be built again and again: a question about one task in it, with some of its reasons lifted."""

    def __init__(
        self, world: dict[str, Any], others: list[dict[str, Any]], mine: dict[str, Any], more: dict[str, Any]
    ) -> None:
        self.world, self.others, self.mine, self.more = world, others, mine, more

    def build(self) -> tuple[Core, int]:
        """The world just before the question. What could start has started."""
        world = dict(self.world)
        core = Core(slots=world.pop("slots"), grace=GRACE, max_cpu=90.0, temp_low=4, temp_high=6, **world)
        half = len(self.others) // 2
        for other in self.others[:half]:
            core.create(**other)
        core.tell(Sampled(self.more["sample"]))
        mine = dict(self.mine)
        hold = self.more["hold"]
        if "depend" in hold:
            first = core.create(held=True)
            mine["depends_on"] = (first,) if hold == "dependency" else (first, core.create(held=True))
        mine["held"] = hold == "held"
        mine["scheduled_for"] = core.now + timedelta(hours=1) if hold == "later" else None
        task_id = core.create(**mine)
        if self.more["pause"] is not None:
            core.send(self.more["pause"])
        for other in self.others[half:]:
            core.create(**other)
        return core, task_id


def explained(core: Core, task_id: int) -> Why:
    why = explain(core.state, task_id, core.now)
    assert why is not None
    return why


class Lifting:
    """Takes reasons away: one slot, one place, or just the missing bytes. Then a step is taken."""

    def __init__(self, core: Core, task_id: int) -> None:
        self.core, self.task = core, core.state.tasks[task_id]
        self.limits, self.sample = core.state.limits, core.state.sample

    def lift(self, reasons: list[Obstacle]) -> None:
        """Nothing starts before all are lifted."""
        state = self.core.state
        state.draining = True
        for one in reasons:
            getattr(self, f"_{one.reason.lower()}")(one)
        state.sample = self.sample  # not told: what runs would count as seen, and leave more for others
        self.core.tell(LimitsChanged(self.limits))
        state.draining = False
        self.core.tell(Tick())

    def _held(self, _one: Obstacle) -> None:
        self.core.send(AdjustTask(task_id=self.task.id, held=False))

    def _notbefore(self, _one: Obstacle) -> None:
        self.core.wait(3600)  # an adjustment would change its place as well

    def _dependency(self, one: Obstacle) -> None:
        for free in [free for other in one.tasks for free in self.core.state.unblock(other)]:
            self.core.state.queue.push(free)

    def _paused(self, one: Obstacle) -> None:
        (pause,) = (pause for pause in self.core.state.pauses.all() if pause.position in one.evidence)
        self.core.send(ResumeQueue(type=pause.type, user_id=pause.user_id))

    def _concurrencylimit(self, one: Obstacle) -> None:
        more = int(one.numbers["running"]) + 1
        self.limits = replace(self.limits, max_concurrent=max(self.limits.max_concurrent, more))
        self.core.tell(CapacityChanged(max(self.core.state.slots, more)))

    def _typelimit(self, one: Obstacle) -> None:
        self._raise("types", self.task.spec.type, one)

    def _userlimit(self, one: Obstacle) -> None:
        self._raise("users", str(self.task.spec.user_id), one)

    def _labellimit(self, one: Obstacle) -> None:
        self._raise("labels", self.task.spec.label, one)

    def _raise(self, table: str, name: str, one: Obstacle) -> None:
        numbers = {**getattr(self.limits, table), name: int(one.numbers["running"]) + 1}
        self.limits = replace(self.limits, **{table: numbers})

    def _memory(self, one: Obstacle) -> None:
        missing = int(one.numbers["missing"])
        if "max_memory" in one.detail:
            self.limits = replace(self.limits, max_memory=self.limits.max_memory + missing)
        else:
            self.sample = replace(self.sample, memory_available=self.sample.memory_available + missing)

    def _tempspace(self, one: Obstacle) -> None:
        missing = int(one.numbers.get("missing", 0))
        if "max_temp_size" in one.detail:
            self.limits = replace(self.limits, max_temp_size=self.limits.max_temp_size + missing)
        elif missing:
            self.sample = replace(self.sample, temp_free=self.sample.temp_free + missing)
        else:
            self.sample = replace(self.sample, disk_low=False)

    def _cpu(self, _one: Obstacle) -> None:
        self.sample = replace(self.sample, cpu_percent=self.limits.max_cpu)

    def _higherpriority(self, _one: Obstacle) -> None:
        for other in [*self.core.state.queue.first(100), *self.core.state.too_big]:
            if other != self.task.id:
                self.core.cancel(other)


scenarios = st.builds(
    Scenario,
    settings_of_a_world,
    st.lists(wishes, max_size=8),
    wishes,
    st.fixed_dictionaries({"sample": samples, "pause": pauses, "hold": holds}),
)


@settings(deadline=None, max_examples=100)
@given(scenarios)
def test_a_task_starts_when_exactly_the_reported_reasons_are_lifted_and_not_when_one_is_left(one: Scenario) -> None:
    check(one)


@pytest.mark.slow
@settings(deadline=None, max_examples=800)
@given(scenarios)
def test_the_reasons_are_exact_in_many_more_worlds(one: Scenario) -> None:
    check(one)


def check(one: Scenario) -> None:
    """The reported reasons hold the task, each of them, and nothing else does."""
    core, task_id = one.build()
    why = explained(core, task_id)
    if not why.waiting:
        assert why.reasons == ()
        assert task_id in core.running()
        return
    reasons = list(why.reasons)
    event(" ".join(sorted(reason.reason for reason in reasons)))
    assert reasons, "a task that waits for nothing would have started"
    for left in (None, *reasons):
        core, task_id = one.build()
        Lifting(core, task_id).lift([reason for reason in reasons if reason is not left])
        assert (task_id in core.running()) == (left is None), f"{left} is left of {reasons}"


@settings(deadline=None, max_examples=200)
@given(scenarios)
def test_a_reason_is_gone_once_its_commands_are_sent_as_they_are(one: Scenario) -> None:
    core, task_id = one.build()
    if task_id in core.running():
        return
    reasons = explained(core, task_id).reasons
    for place, reason in enumerate(reasons):
        if not reason.commands or isinstance(reason.commands[0], RetryTask):
            continue  # a dependency that is retried has to complete as well
        if reason.reason is WaitReason.HIGHER_PRIORITY and reasons[0].reason is WaitReason.HELD:
            continue  # the first start releases it, the second one goes ahead of the queue
        core, task_id = one.build()
        told = explained(core, task_id).reasons[place]
        # Otherwise others would start in the room that is made, and it would be missing again.
        core.state.draining = not any(isinstance(command, StartTask) for command in told.commands)
        answers = [core.ask(command) for command in told.commands]
        if any(isinstance(answer, CannotStartNow) for answer in answers):
            assert len(explained(core, task_id).reasons) > 1, "only what else holds it may keep it from starting"
            continue
        assert all(isinstance(answer, Accepted) for answer in answers), answers
        left = [(other.reason, other.detail.split(" of ")[-1]) for other in explained(core, task_id).reasons]
        assert (told.reason, told.detail.split(" of ")[-1]) not in left, f"{told.commands} did not lift {told}"


Plant = Callable[[pytest.MonkeyPatch], None]


def _limits_untold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(waiting, "is_full", lambda *_: False)


def _pauses_untold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(waiting, "pauses_of", lambda *_: ())


def _order_untold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(why_module, "who_goes_first", lambda *_: ())


def _order_made_up(patch: pytest.MonkeyPatch) -> None:
    first = rehearsal.who_goes_first
    patch.setattr(why_module, "who_goes_first", lambda state, task: first(state, task) or (99,))


def _one_resource_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(waiting, "obstacles", lambda *arguments: obstacles(*arguments)[:1])


@pytest.mark.parametrize(
    "plant",
    [_limits_untold, _pauses_untold, _order_untold, _order_made_up, _one_resource_only],
    ids=lambda plant: plant.__name__.strip("_"),
)
def test_an_explanation_that_leaves_out_or_makes_up_a_reason_is_found(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    @settings(deadline=None, max_examples=300, phases=[Phase.generate], database=None, derandomize=True)
    @given(scenarios)
    def checked(one: Scenario) -> None:
        check(one)

    with pytest.raises(AssertionError):
        checked()


def reasons_of(core: Core, task_id: int) -> dict[WaitReason, Obstacle]:
    return {one.reason: one for one in explained(core, task_id).reasons}


def test_a_task_that_runs_or_is_unknown_has_nothing_to_explain(core: Core) -> None:
    task_id = core.create()
    assert explained(core, task_id) == Why(
        task_id=task_id, status="running", waiting=False, position=core.state.position
    )
    core.end(task_id)
    assert explain(core.state, task_id, core.now) is None
    assert explain(core.state, 99, core.now) is None


def test_a_retry_names_the_seconds_that_are_left(core: Core) -> None:
    task_id = core.create(max_retries=1, retry_delay=60)
    core.end(task_id, "failed", error="timeout")
    core.wait(20)
    found = reasons_of(core, task_id)
    assert found.keys() == {WaitReason.RETRY_DELAY}
    assert found[WaitReason.RETRY_DELAY].numbers == {"seconds": 40.0}
    assert found[WaitReason.RETRY_DELAY].commands == (StartTask(task_id=task_id),)
    core.wait(40)
    core.tell(Tick())
    assert core.running() == [task_id]


def test_a_retried_task_waits_for_the_end_of_its_own_old_attempt_and_for_nothing_that_it_holds_itself(
    make_core: Callable[..., Core],
) -> None:
    core = make_core(slots=1, max_memory=10, max_per_type=1)
    task_id = core.create(memory=10, max_retries=1, retry_delay=0)
    core.cancel(task_id)
    core.retry(task_id)
    found = reasons_of(core, task_id)
    assert found.keys() == {WaitReason.STOPPING}
    assert found[WaitReason.STOPPING].evidence == (core.state.running[task_id].started_position,)
    core.end(task_id, "stopped")
    assert core.running() == [task_id]


def test_a_limit_names_who_holds_it_and_where_both_are_recorded(make_core: Callable[..., Core]) -> None:
    core = make_core(slots=4)
    core.send(SetLimits(types={"work": 1}))
    changed = core.state.position
    holder = core.create()
    started = core.state.position
    reason = reasons_of(core, core.create())[WaitReason.TYPE_LIMIT]
    assert reason.detail == "1 attempt of type work runs, 1 may"
    assert (reason.evidence, reason.tasks) == ((started, changed), (holder,))
    assert reason.numbers == {"running": 1, "limit": 1}
    assert reason.commands == (SetLimits(types={"work": 2}),)


def test_memory_names_its_holders_and_where_the_limit_was_set_and_what_never_fits_is_told(
    make_core: Callable[..., Core],
) -> None:
    core = make_core(slots=4)
    core.send(SetLimits(max_memory=10))
    changed = core.state.position
    core.create(memory=6)
    started = core.state.position
    waits = core.create(memory=8)
    assert reasons_of(core, waits)[WaitReason.MEMORY].evidence == (started, changed)
    assert reasons_of(core, waits)[WaitReason.MEMORY].commands == (SetLimits(max_memory=14),)
    assert explained(core, waits).remark == ""
    assert explained(core, core.create(memory=11)).remark == why_module.NEVER_FITS


def test_more_slots_are_asked_for_only_where_a_worker_is_free(make_core: Callable[..., Core]) -> None:
    for slots, lifts in ((1, ()), (2, (SetLimits(max_concurrent=2),))):
        core = make_core(slots=slots, max_concurrent=1)
        core.create()
        assert reasons_of(core, core.create())[WaitReason.CONCURRENCY_LIMIT].commands == lifts


def test_a_failed_dependency_is_to_be_retried_by_force_where_none_are_left(core: Core) -> None:
    spent, fresh = core.create(), core.create(max_retries=1)
    core.cancel(fresh)
    core.end(spent, "failed", error="broken")
    waiting = core.create(depends_on=(spent, fresh), on_dependency_failure="wait")
    failed = reasons_of(core, waiting)[WaitReason.DEPENDENCY_FAILED]
    assert retries(failed.tasks, core.read) == (RetryTask(task_id=spent, force=True), RetryTask(task_id=fresh))


def test_what_would_end_a_failed_dependency_again_is_to_be_retried_before_it(core: Core) -> None:
    """A retry is refused while what the task depends on would end it: the commands are accepted one after the other."""
    root = core.create(held=True)
    met = core.create(depends_on=(root,), on_dependency_failure="ignore")
    left, right = (core.create(depends_on=(root, met), on_dependency_failure="fail") for _ in range(2))
    last = core.create(depends_on=(left, right), on_dependency_failure="cancel")
    waiting = core.create(depends_on=(last,), on_dependency_failure="wait")
    core.cancel(root)
    commands = retries(reasons_of(core, waiting)[WaitReason.DEPENDENCY_FAILED].tasks, core.read)
    assert [command.task_id for command in commands] == [root, left, right, last]
    for command in commands:
        core.send(command)
    assert reasons_of(core, waiting).keys() == {WaitReason.DEPENDENCY, WaitReason.CONCURRENCY_LIMIT}


def test_a_pause_names_who_why_and_where(core: Core) -> None:
    core.send(PauseQueue(user_id=3, actor="ops", reason="unpaid"))
    reason = reasons_of(core, core.create(user_id=3))[WaitReason.PAUSED]
    assert reason.detail == "user 3 is paused by ops: unpaid"
    assert reason.evidence == (core.state.position - 1,)


def test_a_task_kept_room_for_is_named(make_core: Callable[..., Core]) -> None:
    core = make_core(slots=2, max_memory=10)
    core.create(memory=6)
    big = core.create(memory=8, priority=5)
    for _ in range(32):
        core.end(core.create(memory=1))
    small = core.create(memory=1)
    found = reasons_of(core, small)
    assert found.keys() == {WaitReason.HIGHER_PRIORITY}
    assert found[WaitReason.HIGHER_PRIORITY].tasks == (big,)


def test_what_is_ahead_is_named_with_its_terms_and_counted(core: Core) -> None:
    core.create()
    core.create(priority=10)
    better = [core.create(priority=5, user_level=1) for _ in range(12)]
    core.wait(60)
    why = explained(core, core.create())
    assert why.place == 14
    assert [one.task_id for one in why.ahead] == better[:10]
    assert (why.ahead[0].effective_priority, why.ahead[0].terms.user, why.ahead[0].terms.wait) == (16.0, 10, 1.0)


def test_without_a_service_only_what_the_log_tells_is_said(core: Core) -> None:
    core.create()
    core.send(PauseQueue())
    task_id = core.create(depends_on=(1,))
    why = explain(core.state, task_id, core.now, live=False)
    assert why is not None
    assert {one.reason for one in why.reasons} == {WaitReason.PAUSED, WaitReason.DEPENDENCY}
    assert not why.live
    assert "No service runs" in why.remark

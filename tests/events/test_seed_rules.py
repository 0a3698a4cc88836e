"""The rules of the first design, one by one, as they hold here. docs/reference/seed-table.md refers to these tests."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.core.explanation import WaitReason, obstacles
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.queue import ReadyQueue
from tasktrail.actors.core.resources import NOTHING_USED, MachineSample, Reserved, machine_is_busy, never_fits
from tasktrail.events import CreateTask, RetryTask, SaveCheckpoint, Task, TaskState
from tasktrail.events.commands import AbortAttempt, TaskCommand
from tasktrail.events.context import DecisionContext
from tasktrail.events.decide import after_dependency, decide
from tasktrail.events.errors import IllegalTransition, RetriesExhausted, UnknownDependency
from tasktrail.events.priority import terms
from tasktrail.events.reports import AttemptEnded
from tasktrail.events.retry import RetryRule, matching_rule
from tasktrail.events.state import Status, create, evolve
from tasktrail.events.system_events import Adjusted
from tasktrail.events.task import view
from tasktrail.events.task_events import (
    Cancelled,
    Checkpoint,
    Checkpointed,
    Created,
    Failed,
    Progressed,
    Retried,
    Started,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

SEED_JSON = """id created_at updated_at type status priority input_file output_file options progress message error
started_at completed_at duration retry_count max_retries retry_delay last_error checkpoint resumable parent_task_id
depends_on notify_email notify_webhook callback_url user_id document_id"""


def waiting(task_id: int = 1, at: datetime = NOW, **fields: Any) -> TaskState:
    return create(task_id, Created(type="noop", **fields), at)


def running(**fields: Any) -> TaskState:
    return evolve(waiting(**fields), Started(), NOW)


def failed(**fields: Any) -> TaskState:
    return evolve(running(**fields), Failed(outcome="failed", error="boom", final=True), NOW)


def after(state: TaskState, command: Any) -> TaskState:
    """Return the state after the events of `command`."""
    for event in decide(state, command, DecisionContext(now=NOW)):
        state = evolve(state, event, NOW)  # type: ignore[arg-type]  # task events
    return state


def interrupted(state: TaskState) -> TaskState:
    return after(state, AbortAttempt(task_id=1, outcome="interrupted", error="interrupted"))


def test_a_task_has_every_field_of_the_seed_under_its_json_name() -> None:
    shown = msgspec.to_builtins(view(waiting(), NOW))
    assert set(SEED_JSON.split()) <= shown.keys()


def test_a_task_shows_what_its_state_says_and_else_its_spec() -> None:
    state = failed(input_file="in", output_file="out", label="night", depends_on=(3,), user_id=7)
    task = view(state, NOW)
    for name in set(Task.__struct_fields__) - {"effective_priority", "priority_terms", "children"}:
        said = getattr(state, name) if hasattr(state, name) else getattr(state.spec, name)
        assert getattr(task, name) == said, name
    assert (task.effective_priority, task.children) == (terms(state, state.updated_at).total, None)


def test_a_printed_task_leaves_out_what_is_empty() -> None:
    printed = repr(view(waiting(label="night"), NOW))
    assert printed.startswith("Task(id=1, created_at=")
    assert "status='pending'" in printed
    assert "label='night'" in printed
    assert not {"error", "batch", "deadline", "result"} & {field.partition("=")[0] for field in printed.split(", ")}


def test_there_are_the_six_states_of_the_seed() -> None:
    assert set(get_args(Status)) == {"pending", "running", "completed", "failed", "cancelled", "retrying"}


def test_three_retries_a_minute_apart_unless_asked_for_otherwise() -> None:
    command = CreateTask(type="noop")
    assert (command.max_retries, command.retry_delay) == (3, 60)


@pytest.mark.parametrize("priority", [-1, 11])
def test_a_priority_outside_of_0_to_10_is_refused(priority: int) -> None:
    with pytest.raises(msgspec.ValidationError, match="priority"):
        msgspec.convert({"command": "create_task", "type": "noop", "priority": priority}, TaskCommand)


def test_a_dependency_has_to_exist() -> None:
    with pytest.raises(UnknownDependency, match="7"):
        decide(None, CreateTask(type="noop", depends_on=(7,)), DecisionContext(now=NOW, last_task_id=6))


def test_a_parent_has_to_exist() -> None:
    with pytest.raises(UnknownDependency, match="7"):
        decide(None, CreateTask(type="noop", parent_task_id=7), DecisionContext(now=NOW, last_task_id=6))


def test_dependencies_are_an_array_of_ids_and_each_counts_once() -> None:
    (event,) = decide(None, CreateTask(type="noop", depends_on=(2, 1, 2)), DecisionContext(now=NOW, last_task_id=2))
    assert isinstance(event, Created)
    assert event.depends_on == (2, 1)


@pytest.mark.parametrize("policy", ["wait", "cancel", "fail", "ignore", ()])
def test_a_policy_without_dependencies_is_not_recorded_and_the_task_is_shown_with_wait(policy: Any) -> None:
    (event,) = decide(None, CreateTask(type="noop", on_dependency_failure=policy), DecisionContext(now=NOW))
    assert isinstance(event, Created)
    assert "on_dependency_failure" not in msgspec.to_builtins(event)
    assert view(create(1, event, NOW), NOW).on_dependency_failure == "wait"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("fail", [Failed]), ("cancel", [Cancelled]), ("ignore", [Adjusted]), ("wait", [])],
)
def test_a_dependency_that_has_failed_does_what_the_policy_says(policy: Any, expected: list[type]) -> None:
    task = waiting(2, depends_on=(1,), on_dependency_failure=policy)
    assert [type(event) for event in after_dependency(task, failed())] == expected


def test_a_dependency_that_is_not_over_does_nothing() -> None:
    assert after_dependency(waiting(2, depends_on=(1,), on_dependency_failure="fail"), running()) == ()


def test_a_failure_is_tried_again_after_the_delay_of_the_task() -> None:
    task = running(max_retries=2, retry_delay=90.0, retry_backoff=3.0)
    report = AttemptEnded(task_id=1, attempt=1, outcome="failed", error="timeout")
    due = [after(msgspec.structs.replace(task, retry_count=retries), report).due_at for retries in (0, 1)]
    assert due == [NOW + timedelta(seconds=90), NOW + timedelta(seconds=270)]


def test_a_rule_of_the_users_own_comes_first_and_is_recorded() -> None:
    rules = (RetryRule("never", retryable=False, contains="timeout"),)
    report = AttemptEnded(task_id=1, attempt=1, outcome="failed", error="timeout")
    (event,) = decide(running(max_retries=2), report, DecisionContext(now=NOW, retry_rules=rules))
    assert isinstance(event, Failed)
    assert (event.final, event.rule) == (True, "never")


@pytest.mark.parametrize(("retryable", "rule", "final"), [(False, "oom", True), (True, "oom", False)])
def test_a_rule_of_the_users_own_may_forbid_to_try_again_after_a_crash(
    *, retryable: bool, rule: str, final: bool
) -> None:
    rules = (RetryRule("oom", retryable=retryable, exit_code=-9),)
    report = AttemptEnded(task_id=1, attempt=1, outcome="lost", error="killed", exit_code=-9)
    event = decide(running(), report, DecisionContext(now=NOW, retry_rules=rules))[0]
    assert isinstance(event, Failed)
    assert (event.rule, event.final, event.exit_code) == (rule, final, -9)


def test_the_last_words_of_a_worker_that_died_are_no_reason_to_give_up() -> None:
    report = AttemptEnded(
        task_id=1, attempt=1, outcome="lost", error="killed: PermissionError", error_type="WorkerLost"
    )
    event = decide(running(), report, DecisionContext(now=NOW))[0]
    assert isinstance(event, Failed)
    assert (event.rule, event.final) == ("crash", False)


def test_a_crash_too_many_is_poison_whatever_a_rule_allows() -> None:
    task = msgspec.structs.replace(running(), crash_count=2)
    rules = (RetryRule("oom", retryable=True, exit_code=-9),)
    report = AttemptEnded(task_id=1, attempt=1, outcome="lost", exit_code=-9)
    (event,) = decide(task, report, DecisionContext(now=NOW, retry_rules=rules))
    assert isinstance(event, Failed)
    assert event.rule == "poison: 3 crashes in a row"


@given(
    priority=st.integers(0, 10),
    user_level=st.integers(0, 5),
    estimated_time=st.sampled_from([0.0, 3600.0, 3600.1, 90000.0]),
    minutes=st.integers(0, 10_000),
)
def test_the_effective_priority_is_that_of_the_seed(
    priority: int, user_level: int, estimated_time: float, minutes: int
) -> None:
    task = waiting(priority=priority, user_level=user_level, estimated_time=estimated_time)
    seed = priority + user_level * 10 + minutes - (20 if estimated_time > 3600 else 0)
    assert terms(task, NOW + timedelta(minutes=minutes)).total == seed


def test_waiting_counts_from_the_time_a_task_is_scheduled_for() -> None:
    task = waiting(scheduled_for=NOW + timedelta(minutes=5))
    assert terms(task, NOW + timedelta(minutes=7)).total == 2


def test_the_queue_pushes_pops_peeks_removes_and_counts() -> None:
    queue = ReadyQueue()
    for task_id, priority in ((1, 0), (2, 9), (3, 5)):
        queue.push(waiting(task_id, priority=priority))
    assert (len(queue), queue.peek(), queue.pop()) == (3, 2, 2)
    assert queue.remove(3)
    assert not queue.remove(3)
    assert (queue.pop(), queue.pop()) == (1, None)


@pytest.mark.parametrize("text", ["connection refused", "timeout", "temporary failure", "disk full"])
def test_the_errors_of_the_seed_are_retryable_wherever_they_stand_in_the_text(text: str) -> None:
    rule = matching_rule("RuntimeError", f"it broke: {text} (again)")
    assert rule is not None
    assert rule.retryable


def test_any_other_error_is_not_retryable() -> None:
    assert matching_rule("ValueError", "no such codec") is None


def test_a_retry_by_hand_is_refused_when_none_are_left() -> None:
    with pytest.raises(RetriesExhausted):
        decide(failed(max_retries=0), RetryTask(task_id=1), DecisionContext(now=NOW))


def test_a_forced_retry_says_that_it_was_forced() -> None:
    (event,) = decide(failed(max_retries=0), RetryTask(task_id=1, force=True), DecisionContext(now=NOW))
    assert isinstance(event, Retried)
    assert event.forced


def test_a_retry_is_counted_moves_the_error_and_is_due_after_the_delay() -> None:
    at_once = after(failed(max_retries=1, retry_delay=90.0), RetryTask(task_id=1))
    assert (at_once.status, at_once.due_at) == ("retrying", None)
    task = after(failed(max_retries=1), RetryTask(task_id=1, delay=90.0))
    assert (task.status, task.retry_count, task.error, task.last_error) == ("retrying", 1, "", "boom")
    assert task.due_at == NOW + timedelta(seconds=90)


def test_recovery_goes_on_from_the_checkpoint_and_says_so() -> None:
    task = evolve(running(resumable=True), Checkpointed(checkpoint=Checkpoint(processed_frames=9), progress=40), NOW)
    task = interrupted(evolve(task, Progressed(progress=55), NOW))
    assert (task.status, task.progress, task.retry_count) == ("retrying", 40, 0)
    assert task.message == "resuming from the checkpoint at 40 %"


def test_recovery_without_a_checkpoint_starts_from_0_and_says_so() -> None:
    task = interrupted(evolve(running(), Progressed(progress=55), NOW))
    assert (task.status, task.progress) == ("retrying", 0)
    assert task.message == "recovering the task"


def test_a_checkpoint_has_the_fields_of_the_seed() -> None:
    names = {"processed_frames", "processed_bytes", "last_position", "temp_files"}
    assert names <= set(Checkpoint.__struct_fields__)


def test_a_checkpoint_is_kept_for_the_next_attempt() -> None:
    saved = Checkpoint(processed_frames=9, last_position=1.5, temp_files=("a",))
    task = after(running(resumable=True), SaveCheckpoint(task_id=1, checkpoint=saved))
    assert task.resume_from == saved


def test_a_checkpoint_of_a_task_that_does_not_run_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        decide(waiting(), SaveCheckpoint(task_id=1, checkpoint=Checkpoint()), DecisionContext(now=NOW))


@pytest.mark.parametrize(
    ("limits", "sample", "reason"),
    [
        (Limits(max_memory=99), MachineSample(), WaitReason.MEMORY),
        (Limits(max_cpu=50), MachineSample(cpu_percent=51), WaitReason.CPU),
        (Limits(max_temp_size=9), MachineSample(), WaitReason.TEMP_SPACE),
    ],
)
def test_memory_cpu_and_temp_space_can_each_make_a_task_wait(
    limits: Limits, sample: MachineSample, reason: WaitReason
) -> None:
    task = waiting(estimated_memory=100, estimated_temp=10)
    assert [obstacle.reason for obstacle in obstacles(task, limits, sample, Reserved())] == [reason]


@pytest.mark.parametrize(
    ("limits", "sample", "more"),
    [
        (Limits(max_memory=150), MachineSample(), {"estimated_memory": 101}),
        (Limits(max_temp_size=15), MachineSample(), {"estimated_temp": 11}),
        (Limits(), MachineSample(memory_available=150), {"estimated_memory": 101}),
        (Limits(), MachineSample(temp_free=15), {"estimated_temp": 11}),
    ],
)
def test_what_reaches_a_limit_exactly_still_fits_and_one_byte_more_does_not(
    limits: Limits, sample: MachineSample, more: dict[str, int]
) -> None:
    """The seed refuses what is greater (`>`), beside 50 and 5 bytes that are taken already."""
    needs: dict[str, Any] = {"estimated_memory": 100, "estimated_temp": 10}
    reserved = Reserved()
    reserved.take(waiting(2, estimated_memory=50, estimated_temp=5))
    assert obstacles(waiting(**needs), limits, sample, reserved) == ()
    assert len(obstacles(waiting(**needs | more), limits, sample, reserved)) == 1
    assert not never_fits(waiting(**needs), limits, sample)


def test_a_cpu_as_busy_as_allowed_lets_a_task_start_and_a_busier_one_does_not() -> None:
    limits = Limits(max_cpu=50)
    for percent, fits in ((50.0, True), (50.1, False)):
        sample = MachineSample(cpu_percent=percent)
        assert (obstacles(waiting(), limits, sample, Reserved()) == ()) is fits
        assert machine_is_busy(sample, limits) is not fits


def test_what_is_taken_is_missing_until_it_is_given_back() -> None:
    task, reserved, limits = waiting(estimated_memory=100, estimated_temp=10), Reserved(), Limits(max_memory=150)
    reserved.take(task)
    assert obstacles(task, limits, MachineSample(), reserved)
    reserved.give_back(task, NOTHING_USED)
    assert not obstacles(task, limits, MachineSample(), reserved)

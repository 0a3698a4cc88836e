"""A user is erased when nothing of it is unfinished; the promise is remembered until it is kept."""

import pytest
from core_harness import Core

from tasktrail.actors.core.erasure import refuse_unreadable
from tasktrail.actors.core.messages import ErasureDone as Done
from tasktrail.events import CreateTask, RetryTask
from tasktrail.events.commands import AddSchedule, AddSource, EraseUser, FileTask, RemoveSource
from tasktrail.events.context import Belongings
from tasktrail.events.errors import Erased, KeptInPlain, KeysUnreadable, NothingToChange, UserHasWork
from tasktrail.events.system_events import ErasureFinished, UserErased

THEIRS = Belongings(keys=("k",), tasks=(1,))


def refusal(core: Core, found: Belongings = THEIRS, **fields: object) -> str:
    answer = core.ask(EraseUser(user_id=7, **fields), belongings=found)  # type: ignore[arg-type]  # fields of the command
    assert isinstance(answer, UserHasWork | KeptInPlain | NothingToChange)
    return answer.message


def test_where_nothing_is_encrypted_the_advice_is_about_the_user() -> None:
    answer = Core(slots=0).ask(EraseUser(user_id=7), belongings=Belongings())
    assert isinstance(answer, NothingToChange)
    assert "`tasktrail list --user 7`" in answer.advice


def test_whatever_needs_the_data_is_named() -> None:
    core = Core(slots=0)
    for _ in range(12):
        core.create(user_id=7)
    core.create(user_id=8)
    assert "task 1, task 2, task 3" in refusal(core)
    assert "task 10 and 2 more" in refusal(core)
    for task_id in range(1, 13):
        core.cancel(task_id)
    dependent = core.create(user_id=8, depends_on=(1,), on_dependency_failure="wait")
    core.ask(AddSchedule(schedule="nightly", task=CreateTask(type="work", user_id=7), every=60.0))
    core.ask(AddSource(source="inbox", inputs=("/in",), to="/out/", task=FileTask(type="work", user_id=7)))
    assert refusal(core) == f"User 7 still has results that task {dependent} needs, schedule nightly, source inbox"
    core.ask(RemoveSource(source="inbox"))
    assert "inbox" not in refusal(core)


def test_plain_tasks_are_told_and_passed_over_when_that_is_wanted() -> None:
    core = Core()
    assert refusal(core, Belongings(plain=3)).startswith("3 tasks of user 7")
    told = refusal(core, Belongings(plain=3), partly=True)
    assert told == "Nothing of user 7 is encrypted, or it has been erased before"
    accepted = core.send(EraseUser(user_id=7, partly=True), belongings=THEIRS._replace(plain=3))
    assert core.state.durable.erasures == {accepted.position: UserErased(keys=("k",), tasks=(1,), plain=3)}


def test_an_erasure_is_finished_once() -> None:
    core = Core()
    position = core.send(EraseUser(user_id=7), belongings=THEIRS).position
    assert core.tell(Done(position)) == [ErasureFinished(erasure=position)]
    assert core.tell(Done(position)) == []
    assert core.state.durable.erasures == {}


def test_a_task_whose_data_is_about_to_go_is_not_retried() -> None:
    core = Core(slots=0)
    task = core.create(user_id=7)
    core.cancel(task)
    core.send(EraseUser(user_id=7), belongings=THEIRS)
    assert isinstance(core.ask(RetryTask(task_id=task, force=True)), Erased)


def test_a_service_does_not_begin_with_open_tasks_that_nobody_can_read() -> None:
    core = Core(slots=0)
    core.create(user_id=7, input_file="/in", output_file="/out")
    refuse_unreadable(core.state)
    lost = core.create(input_file="[erased]")
    with pytest.raises(KeysUnreadable, match=f"task {lost}"):
        refuse_unreadable(core.state)
    core.cancel(lost)
    refuse_unreadable(core.state)

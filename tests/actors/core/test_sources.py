"""Watched folders in the Scheduler: added, changed, paused, resumed and removed, also over restarts."""

from collections.abc import Callable
from typing import Any

import pytest
from core_harness import Core

from tasktrail.actors.core.sources import WatchedFolder
from tasktrail.events.commands import AddSource, DrainNode, FileTask, PauseSource, RemoveSource, ResumeSource
from tasktrail.events.errors import NothingToChange, SourceExists, UnknownSource
from tasktrail.events.system_events import SourcePaused, SourceResumed

MakeCore = Callable[..., Core]


def add(core: Core, **fields: Any) -> Any:
    given = {"source": "inbox", "inputs": ("/in",), "to": "/out/{stem}.mp4", "actor": "ops", "reason": "films"}
    return core.ask(AddSource(**(given | fields)))


def there(core: Core) -> dict[str, WatchedFolder]:
    return core.state.durable.sources.by_name


def test_a_source_is_known_by_its_name_also_after_a_restart(core: Core) -> None:
    add(core, task=FileTask(type="work", priority=3), settle=2.0)
    again = core.again()
    assert there(again) == there(core)
    found = there(again)["inbox"]
    assert (found.inputs, found.to, found.settle, found.poll) == (("/in",), "/out/{stem}.mp4", 2.0, 60.0)
    assert found.task == {"type": "work", "priority": 3}
    assert (found.actor, found.reason, found.paused) == ("ops", "films", False)


@pytest.mark.parametrize("kind", [SourcePaused, SourceResumed])
def test_a_record_about_a_source_that_is_not_there_changes_nothing(
    core: Core, kind: type[SourcePaused | SourceResumed]
) -> None:
    core.alter(kind(source="nowhere"))
    assert there(core.again()) == {}


def test_one_of_the_same_name_is_changed_only_when_that_is_asked_for(core: Core) -> None:
    add(core)
    assert isinstance(add(core, to="/other/{stem}.mp4"), SourceExists)
    assert isinstance(add(core, replace=True), NothingToChange)
    core.ask(PauseSource(source="inbox"))
    add(core, to="/other/{stem}.mp4", replace=True)
    assert (there(core)["inbox"].to, there(core)["inbox"].paused) == ("/other/{stem}.mp4", True), "it stays paused"


def test_what_is_so_already_tells_what_shows_it(core: Core) -> None:
    add(core)
    core.ask(DrainNode(node="local"))
    refused = (
        (ResumeSource(source="inbox"), "source list"),
        (AddSource(source="inbox", inputs=("/in",), to="/out/{stem}.mp4", replace=True), "source list"),
        (DrainNode(node="local"), "nodes"),
    )
    for command, shows in refused:
        answer = core.ask(command)
        assert isinstance(answer, NothingToChange)
        assert f"`tasktrail {shows}`" in answer.advice


def test_it_is_paused_resumed_and_removed(core: Core) -> None:
    add(core)
    assert isinstance(core.ask(ResumeSource(source="inbox")), NothingToChange)
    core.ask(PauseSource(source="inbox"))
    core = core.again()
    assert there(core)["inbox"].paused
    assert isinstance(core.ask(PauseSource(source="inbox")), NothingToChange)
    core.ask(ResumeSource(source="inbox"))
    core.ask(RemoveSource(source="inbox"))
    assert there(core.again()) == {}


@pytest.mark.parametrize("command", [RemoveSource, PauseSource, ResumeSource])
def test_there_has_to_be_one(core: Core, command: Any) -> None:
    refused = core.ask(command(source="none"))
    assert isinstance(refused, UnknownSource)
    assert refused.field == "source"

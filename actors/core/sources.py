"""Watched folders, whose files become tasks by themselves. A fold of the log: the folders are watched elsewhere."""

from datetime import datetime
from typing import Any

import msgspec

from ...events import Fact
from ...events.commands import AddSource, PauseSource, RemoveSource, ResumeSource
from ...events.errors import NothingToChange, SourceExists, UnknownSource
from ...events.system_events import SourceAdded, SourcePaused, SourceRemoved, SourceResumed


class WatchedFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A source that was added and not removed."""

    source: str
    """Its name, which is also the batch of its tasks."""
    inputs: tuple[str, ...]
    to: str
    task: dict[str, Any]
    """The fields that its tasks share, as they were asked for."""
    settle: float
    poll: float
    paused: bool = False
    added_at: datetime
    actor: str
    """Who added it or changed it last; `reason` says why."""
    reason: str
    position: int


class Sources(msgspec.Struct):
    """All sources by name."""

    by_name: dict[str, WatchedFolder] = {}
    changed_at: int = 0
    """Position of the last change."""

    def apply(self, fact: Fact, position: int) -> None:
        """Fold one record."""
        match fact.event:
            case SourceAdded() as event:
                existing = self.by_name.get(event.source)
                self.by_name[event.source] = WatchedFolder(
                    source=event.source,
                    inputs=event.inputs,
                    to=event.to,
                    task=event.task,
                    settle=event.settle,
                    poll=event.poll,
                    paused=existing.paused if existing else False,
                    added_at=fact.recorded_at,
                    actor=fact.actor,
                    reason=fact.reason,
                    position=position,
                )
            case SourceRemoved() as event:
                self.by_name.pop(event.source, None)
            case SourcePaused() | SourceResumed() as event:
                paused = isinstance(event, SourcePaused)
                if event.source in self.by_name:
                    self.by_name[event.source] = msgspec.structs.replace(self.by_name[event.source], paused=paused)
            case _:
                return
        self.changed_at = position


def changed_source(
    sources: Sources, command: AddSource | RemoveSource | PauseSource | ResumeSource
) -> SourceAdded | SourceRemoved | SourcePaused | SourceResumed:
    """The event for a command about a source. Raises `SourceExists`, `UnknownSource`, `NothingToChange`."""
    existing = sources.by_name.get(command.source)
    if isinstance(command, AddSource):
        return _added(existing, command)
    if existing is None:
        raise UnknownSource(f"There is no source {command.source}", field="source")
    if isinstance(command, RemoveSource):
        return SourceRemoved(source=command.source)
    pausing = isinstance(command, PauseSource)
    if existing.paused == pausing:
        how = "paused already" if pausing else "not paused"
        raise NothingToChange(f"The source {command.source} is {how}", field="source", remedy=_LOOK)
    return SourcePaused(source=command.source) if pausing else SourceResumed(source=command.source)


_LOOK = "`tasktrail source list` shows the sources."


def _added(existing: WatchedFolder | None, command: AddSource) -> SourceAdded:
    if existing is not None and not command.replace:
        raise SourceExists(f"There is a source {command.source} already", field="source")
    event = SourceAdded(
        source=command.source,
        inputs=command.inputs,
        to=command.to,
        task=msgspec.to_builtins(command.task),
        settle=command.settle,
        poll=command.poll,
    )
    if existing is not None and all(
        getattr(event, name) == getattr(existing, name) for name in ("inputs", "to", "task", "settle", "poll")
    ):
        raise NothingToChange(f"The source {command.source} has these values already", field="source", remedy=_LOOK)
    return event

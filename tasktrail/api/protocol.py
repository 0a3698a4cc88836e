"""Types for callers that do not care who answers: a running service, one in this process, or the files alone.

`Tasks` takes commands and answers questions; `Reading` only answers questions. Both are unions. So the type checker
looks at each class's own methods, and no signature has to be written a second time.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from ..handlers.presets import Preset

if TYPE_CHECKING:
    from .client import Client
    from .reader import Reader
    from .service import TaskService

Tasks: TypeAlias = "TaskService | Client"
Reading: TypeAlias = "TaskService | Client | Reader"


QUEUE_SHOWN = 50
"""Tasks of the queue that are shown by default."""
BATCHES_SHOWN = 20
"""Batches that are shown by default."""
CHANGES_SHOWN = 50
"""Changed tasks that are shown by default."""


class TypeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A task type as `tasktrail types` shows it."""

    name: str
    summary: str
    resumable: bool
    needs_input: bool
    needs_output: bool
    options: dict[str, Any]
    """JSON schema of the options."""
    programs: tuple[str, ...] = ()
    """Programs that the type can use, and whether the service's machine has them; for people."""
    output_suffix: str = ""
    """The output's suffix, with its dot, where only a folder is given. Empty: the input's suffix."""
    presets: tuple[Preset, ...] = ()
    """Named sets of options."""
    missing: tuple[str, ...] = ()
    """Packages that the type needs and the machine lacks. Its tasks are refused until they are installed."""
    install: str = ""
    """The requirement to install when some are missing."""

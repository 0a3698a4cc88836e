"""What callers name without caring who answers: a running service, one in this process, or the files alone.

`Tasks` takes commands and answers questions; `Reading` only answers questions. Both are unions, so the type checker
looks at every method of every class, and a signature is written down where the method is.
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
"""Tasks of the queue that are shown unless the caller says how many."""
BATCHES_SHOWN = 20
"""The same of batches."""
CHANGES_SHOWN = 50
"""The same of tasks that have changed."""


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
    """Which programs of the service's machine the type can use, and whether they are there; for people."""
    output_suffix: str = ""
    """With its dot: what the output is called where only its folder is given. Empty: as the input."""
    presets: tuple[Preset, ...] = ()
    """Options under names."""
    missing: tuple[str, ...] = ()
    """Packages that it needs and that are not installed there; its tasks are refused until they are."""
    install: str = ""
    """What to install when some are missing."""

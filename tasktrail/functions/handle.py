"""The handle of a submitted task: its number, its state, its result."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ..errors import TaskNotCompleted
from ..events import Accepted, Task
from ..events.errors import InvalidValue
from ..events.state import Status
from ..handlers.functions import value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..api.client import AsyncClient
    from ..api.protocol import Tasks

R_co = TypeVar("R_co", covariant=True)
_OURS = 500
"""The status for a web program to answer with: whoever asked it could not have asked better."""


class TaskHandle(Generic[R_co]):
    """A task that was submitted. It holds no more than the task's number: nothing is lost when it goes."""

    def __init__(self, task_id: int, name: str, returns: Any, client: "Callable[[], Tasks]") -> None:
        self.id = task_id
        self._name = name
        self._returns = returns
        self._client = client

    @property
    def status(self) -> Status:
        """`pending`, `running`, `completed`, `failed`, `cancelled` or `retrying`."""
        return self.task().status

    def task(self) -> Task:
        """All that there is to know about the task."""
        return self._client().get_task(self.id)

    def wait(self, timeout: float | None = None) -> Task:
        """The task, once it has ended in whatever way. Raises `WaitTimeout` after `timeout` seconds."""
        return self._client().wait(self.id, timeout)

    def result(self, timeout: float | None = None) -> R_co:
        """What the function returned, once it has, as the type that it says it returns.

        Raises:
            TaskNotCompleted: the task has failed for good or was cancelled; `task` of the error says why.
            WaitTimeout: it has not ended within `timeout` seconds.
        """
        found: R_co = decoded_result(self.wait(timeout), self._name, self._returns)
        return found

    def cancel(self, *, reason: str = "") -> Accepted:
        """Stop the task, whether it waits or runs. Raises `IllegalTransition` if it has ended."""
        return self._client().cancel_task(self.id, reason=reason)

    def __repr__(self) -> str:
        return f"<task {self.id}>"


class AsyncTaskHandle(Generic[R_co]):
    """The same for a program with an event loop: `await handle` is the result.

    Its state is `(await handle.task()).status`.
    """

    def __init__(self, task_id: int, name: str, returns: Any, client: "Callable[[], AsyncClient]") -> None:
        self.id = task_id
        self._name = name
        self._returns = returns
        self._client = client

    def __await__(self) -> "Generator[Any, None, R_co]":
        return self.result().__await__()

    async def task(self) -> Task:
        """All that there is to know about the task."""
        return await self._client().get_task(self.id)

    async def wait(self, timeout: float | None = None) -> Task:  # noqa: ASYNC109 - as `TaskHandle` has it
        """The task, once it has ended in whatever way. Raises `WaitTimeout` after `timeout` seconds."""
        return await self._client().wait(self.id, timeout)

    async def result(self, timeout: float | None = None) -> R_co:  # noqa: ASYNC109 - as `TaskHandle` has it
        """See `TaskHandle.result`. Whoever is cancelled while waiting leaves the task as it is."""
        found: R_co = decoded_result(await self.wait(timeout), self._name, self._returns)
        return found

    async def cancel(self, *, reason: str = "") -> Accepted:
        """Stop the task, whether it waits or runs. Raises `IllegalTransition` if it has ended."""
        return await self._client().cancel_task(self.id, reason=reason)

    def __repr__(self) -> str:
        return f"<task {self.id}>"


def decoded_result(task: Task, name: str, returns: Any) -> Any:
    """The value that the task's function returned. Raises `TaskNotCompleted`, `InvalidValue`.

    Args:
        task: the task.
        name: the type that it was taken for.
        returns: what the function of that type is annotated with.
    """
    if task.status != "completed":
        raise TaskNotCompleted(task)
    value = value_of(task.result)
    if returns is Any:
        return value
    try:
        return msgspec.json.decode(msgspec.json.encode(value), type=returns)
    except msgspec.ValidationError as error:
        said = f"The result of task {task.id} is not what {name} says it returns: {error}"
        remedy = "Correct the annotation of the function; `.task().result` is what was recorded."
        if task.type != name:
            said = f"Task {task.id} is of type {task.type}, and its result is not what {name} says it returns: {error}"
            remedy = f"Take the number of another task, or the handle of {task.type}."
        raise InvalidValue(said, field="result", remedy=remedy, status=_OURS) from error

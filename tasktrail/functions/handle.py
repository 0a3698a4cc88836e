"""The handle of a submitted task: its number, its state, its result."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ..errors import TaskNotCompleted
from ..events import Accepted, Task
from ..events.errors import InvalidValue
from ..handlers.functions import typed_value

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..api.client import AsyncClient
    from ..api.protocol import Tasks
    from ..events.state import Status

R_co = TypeVar("R_co", covariant=True)
_OURS = 500
"""The status that a web program should answer with: its own caller has done nothing wrong."""


class TaskHandle(Generic[R_co]):
    """The handle of a submitted task. It holds only the task's id, so nothing is lost when it is dropped."""

    def __init__(self, task_id: int, name: str, returns: Any, client: "Callable[[], Tasks]") -> None:
        self.id = task_id
        self._name = name
        self._returns = returns
        self._client = client

    @property
    def status(self) -> "Status":  # as text: completion in notebooks gives up at a Literal that it can read
        """`pending`, `running`, `completed`, `failed`, `cancelled` or `retrying`."""
        return self.task().status

    def task(self) -> Task:
        """The task with all that is known about it."""
        return self._client().get_task(self.id)

    def wait(self, timeout: float | None = None) -> Task:
        """Wait until the task has ended in any way, and return it. Raises `WaitTimeout` after `timeout` seconds."""
        return self._client().wait(self.id, timeout)

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the function's return value, and return it as the type of the function's annotation.

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
    """A `TaskHandle` for a program with an event loop: `await handle` is the result.

    The task's status is `(await handle.task()).status`.
    """

    def __init__(self, task_id: int, name: str, returns: Any, client: "Callable[[], AsyncClient]") -> None:
        self.id = task_id
        self._name = name
        self._returns = returns
        self._client = client

    def __await__(self) -> "Generator[Any, None, R_co]":
        return self.result().__await__()

    async def task(self) -> Task:
        """The task with all that is known about it."""
        return await self._client().get_task(self.id)

    async def wait(self, timeout: float | None = None) -> Task:  # noqa: ASYNC109 - as `TaskHandle` has it
        """Wait until the task has ended in any way, and return it. Raises `WaitTimeout` after `timeout` seconds."""
        return await self._client().wait(self.id, timeout)

    async def result(self, timeout: float | None = None) -> R_co:  # noqa: ASYNC109 - as `TaskHandle` has it
        """See `TaskHandle.result`. Cancelling the wait does not cancel the task."""
        found: R_co = decoded_result(await self.wait(timeout), self._name, self._returns)
        return found

    async def cancel(self, *, reason: str = "") -> Accepted:
        """Stop the task, whether it waits or runs. Raises `IllegalTransition` if it has ended."""
        return await self._client().cancel_task(self.id, reason=reason)

    def __repr__(self) -> str:
        return f"<task {self.id}>"


def decoded_result(task: Task, name: str, returns: Any) -> Any:
    """Return the value that the task's function returned. Raises `TaskNotCompleted`, `InvalidValue`.

    Args:
        task: the task.
        name: the task type that the caller expects.
        returns: the return annotation of that type's function.
    """
    if task.status != "completed":
        raise TaskNotCompleted(task)
    try:
        return typed_value(task.result, returns)
    except msgspec.ValidationError as error:
        message = f"The result of task {task.id} is not what {name} says it returns: {error}"
        remedy = "Correct the annotation of the function; `.task().result` is what was recorded."
        if task.type != name:
            message = (
                f"Task {task.id} is of type {task.type}, and its result is not what {name} says it returns: {error}"
            )
            remedy = f"Take the number of another task, or the handle of {task.type}."
        raise InvalidValue(message, field="result", remedy=remedy, status=_OURS) from error

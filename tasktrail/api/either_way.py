"""One definition of a method for two kinds of callers: those who block, and those who await.

A method is written once, as a coroutine. An `Awaited` class returns the coroutine. In a `Blocking` class everything
that the coroutine calls blocks instead of waiting. So the coroutine ends at its first step, and the class returns its
result.

The type checker sees the same. From one definition `-> Task`, `client.get_task(1)` is a `Task` in a `Blocking` class,
and a coroutine in an `Awaited` class. A shared method cannot call another one through `self`, because it cannot know
which of the two it gets. Code that several methods share is a plain coroutine with an underscore.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import closing
from functools import wraps
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """The methods return when they are done."""


class Awaited:
    """The methods are coroutines."""


def answer_without_waiting(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, and return its result."""
    with closing(coroutine):
        try:
            coroutine.send(None)
        except StopIteration as end:
            answer: T = end.value
            return answer
    raise RuntimeError("a coroutine waits where everything blocks")


def _complete_stream(stream: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Turn an asynchronous generator that never waits into a plain one."""
    try:
        while True:
            try:
                one = answer_without_waiting(_next(stream))
            except StopAsyncIteration:
                return
            yield one
    finally:
        answer_without_waiting(_close(stream))


async def _next(stream: AsyncGenerator[T, None]) -> T:
    return await anext(stream)


async def _close(stream: AsyncGenerator[T, None]) -> None:
    await stream.aclose()


class _Shared:
    """A function in two forms. The class on which it is looked up decides which form is the method."""

    def __init__(self, awaited: Callable[..., Any], blocking: Callable[..., Any]) -> None:
        self._awaited = awaited
        self._blocking = blocking
        self.__doc__ = awaited.__doc__

    def _of(self, instance: object, owner: type | None) -> Any:
        function = self._blocking if issubclass(owner or type(instance), Blocking) else self._awaited
        return function if instance is None else MethodType(function, instance)


class either_way(_Shared, Generic[P, T]):  # noqa: N801 - a decorator
    """Makes a coroutine function a method that blocks, or one that is awaited."""

    def __init__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        @wraps(function)
        def blocking(*args: Any, **kwargs: Any) -> T:
            return answer_without_waiting(function(*args, **kwargs))

        super().__init__(function, blocking)

    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Awaited, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, instance: None, owner: type[Blocking]) -> Callable[Concatenate[Any, P], T]: ...
    @overload
    def __get__(
        self, instance: None, owner: type[Awaited]
    ) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self._of(instance, owner)


class either_stream(_Shared, Generic[P, T]):  # noqa: N801 - a decorator
    """Makes a function that returns an asynchronous generator a method for `for`, or for `async for`."""

    def __init__(self, function: Callable[Concatenate[Any, P], AsyncGenerator[T, None]]) -> None:
        @wraps(function)
        def blocking(*args: Any, **kwargs: Any) -> Generator[T, None, None]:
            return _complete_stream(function(*args, **kwargs))

        super().__init__(function, blocking)

    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, instance: Awaited, owner: type) -> Callable[P, AsyncGenerator[T, None]]: ...
    @overload
    def __get__(
        self, instance: None, owner: type[Blocking]
    ) -> Callable[Concatenate[Any, P], Generator[T, None, None]]: ...
    @overload
    def __get__(
        self, instance: None, owner: type[Awaited]
    ) -> Callable[Concatenate[Any, P], AsyncGenerator[T, None]]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self._of(instance, owner)

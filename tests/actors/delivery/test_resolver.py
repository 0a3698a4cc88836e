"""Resolving names takes bounded time and bounded threads, whatever the name server does."""

import threading

import pytest

from tasktrail.actors.delivery.ssrf import BoundedResolver


def test_a_name_server_that_hangs_holds_nobody_and_only_so_many_threads() -> None:
    released, asked = threading.Event(), threading.Semaphore(0)

    def hang(_host: str, _port: int) -> list[str]:
        asked.release()
        released.wait()
        return ["8.8.8.8"]

    resolver = BoundedResolver(hang, at_once=2)
    try:
        for _number in range(2):
            with pytest.raises(OSError, match="not resolved in time"):
                resolver("slow.test", 443, 0.01)
            assert asked.acquire(timeout=5)
        with pytest.raises(OSError, match="Too many names"):
            resolver("other.test", 443, 5)
        assert not asked.acquire(blocking=False)
    finally:
        released.set()


def test_a_place_is_free_again_when_the_answer_came() -> None:
    resolver = BoundedResolver(lambda _host, _port: ["8.8.8.8"], at_once=1)
    released = resolver._places
    for _number in range(5):
        assert resolver("a.test", 443, 5) == ["8.8.8.8"]
        assert released.acquire(timeout=5)
        released.release()


@pytest.mark.parametrize("error", [OSError("no such name"), UnicodeError("label too long"), ValueError("odd")])
def test_whatever_a_resolver_raises_arrives_as_an_oserror(error: Exception) -> None:
    def fail(_host: str, _port: int) -> list[str]:
        raise error

    with pytest.raises(OSError, match=r"no such name|cannot be looked up"):
        BoundedResolver(fail)("a.test", 443, 5)

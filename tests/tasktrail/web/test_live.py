"""Live parts of a page: each is rendered once for all readers, and a slow reader gets the newest state first."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import httpx
import pytest

from tasktrail.api.service import TaskService
from tasktrail.http.backend import Backend
from tasktrail.web import live
from tasktrail.web.live import Hub

Part = tuple[str, str]


def parts(lines: Iterator[str]) -> Iterator[Part]:
    """Yield name and HTML of each part that comes."""
    for line in lines:
        if line.startswith("data: "):
            told = json.loads(line.removeprefix("data: "))
            yield told["id"], told["html"]


def test_all_parts_come_first_and_then_those_that_change(browser: httpx.Client, running: Callable[..., int]) -> None:
    with browser.stream("GET", "/live", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        coming = parts(answer.iter_lines())
        first = dict(next(coming) for _ in range(6))
        assert set(first) == {"numbers", "running", "queue", "failures", "resources", "activity"}
        task_id = running("just begun")
        _name, html = next(one for one in coming if one[0] == "running" and "just begun" in one[1])
        assert f'href="/tasks/{task_id}"' in html


def test_a_part_holds_nothing_of_a_session(browser: httpx.Client, failed: Callable[[str], int]) -> None:
    failed("again")
    with browser.stream("GET", "/live", timeout=10) as answer:
        coming = parts(answer.iter_lines())
        html = next(html for name, html in coming if name == "failures")
    assert 'name="csrf" value=""' in html


class Connection:
    """The parts of a connection that a hub needs."""

    def streaming(self) -> AbstractContextManager[None]:
        return nullcontext()


def frames(
    hub: Hub, key: str, render: Callable[[], dict[str, str]], task_id: int | None = None
) -> AsyncGenerator[bytes]:
    return hub.follow(key, render, Connection(), task_id)  # type: ignore[arg-type]  # what it needs of one


async def next_part(coming: AsyncIterator[bytes]) -> Part:
    async with asyncio.timeout(10):
        async for frame in coming:
            for one in parts(iter(frame.decode().splitlines())):
                return one
    raise AssertionError("the stream has ended")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PAUSE", 0.01)
    monkeypatch.setattr(live, "_IDLE", 0.02)


@pytest.mark.usefixtures("quick")
def test_many_who_look_at_the_same_have_it_rendered_once(service: TaskService) -> None:
    rendered = 0

    def render() -> dict[str, str]:
        nonlocal rendered
        rendered += 1
        return {"part": "the same"}

    async def look() -> None:
        backend = Backend(service)
        hub = Hub(backend)
        readers = [frames(hub, "key", render) for _ in range(50)]
        told = [await next_part(reader) for reader in readers]
        assert told == [("part", "the same")] * 50
        assert rendered < 10
        for reader in readers:
            await reader.aclose()
        assert hub.views == 0, "nobody looks, so nothing is kept"
        backend.close()

    asyncio.run(look())


def test_who_comes_later_gets_nothing_older_than_what_a_page_showed(
    service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PAUSE", 0.0)
    monkeypatch.setattr(live, "_IDLE", 1000.0)
    watched = service.create_task(type="saying", input_file="", output_file="", held=True)
    before = service.list_tasks()[1]

    def render() -> dict[str, str]:
        return {"part": str(service.list_tasks()[1] - before), "still": "always the same"}

    async def look() -> None:
        backend = Backend(service)
        hub = Hub(backend)
        first = frames(hub, "key", render, watched)
        assert {await next_part(first), await next_part(first)} == {("part", "0"), ("still", "always the same")}
        await asyncio.to_thread(service.create_task, type="saying", input_file="", output_file="", held=True)
        second = frames(hub, "key", render, watched)
        assert {await next_part(second), await next_part(second)} == {("part", "1"), ("still", "always the same")}
        await first.aclose()
        await second.aclose()
        backend.close()

    asyncio.run(look())


@pytest.mark.usefixtures("quick")
def test_a_slow_reader_gets_the_newest_state_and_no_older_one(service: TaskService) -> None:
    number = 0
    seen = threading.Event()

    def render() -> dict[str, str]:
        nonlocal number
        number += 1
        if number == 20:
            seen.set()
        return {"part": str(number), "still": "always the same"}

    async def look() -> None:
        backend = Backend(service)
        hub = Hub(backend)
        slow = frames(hub, "key", render)
        begun = {await next_part(slow), await next_part(slow)}
        assert ("still", "always the same") in begun
        assert await asyncio.to_thread(seen.wait, 10)
        name, html = await next_part(slow)
        assert name == "part"
        assert int(html) >= 20, "those between are skipped"
        await slow.aclose()
        backend.close()

    asyncio.run(look())


@pytest.mark.usefixtures("quick")
def test_a_view_goes_on_after_a_rendering_that_failed(service: TaskService) -> None:
    number = 0

    def render() -> dict[str, str]:
        nonlocal number
        number += 1
        if number == 1:
            raise OSError("just now")
        return {"part": "there"}

    async def look() -> None:
        backend = Backend(service)
        reader = frames(Hub(backend), "key", render)
        assert await next_part(reader) == ("part", "there")
        await reader.aclose()
        backend.close()

    asyncio.run(look())


def test_a_view_of_one_task_is_rendered_again_for_that_task_only(
    service: TaskService, monkeypatch: pytest.MonkeyPatch, running: Callable[..., int]
) -> None:
    monkeypatch.setattr(live, "PAUSE", 0.0)
    monkeypatch.setattr(live, "_IDLE", 1000.0)
    watched = running("watched")
    rendered = 0

    def render() -> dict[str, str]:
        nonlocal rendered
        rendered += 1
        return {"part": str(rendered)}

    async def look() -> None:
        backend = Backend(service)
        reader = frames(Hub(backend), "key", render, watched)
        assert await next_part(reader) == ("part", "1")
        other = await asyncio.to_thread(service.create_task, type="saying", input_file="", output_file="")
        await asyncio.to_thread(service.wait, other, 10)
        await asyncio.to_thread(service.cancel_task, watched)
        assert await next_part(reader) == ("part", "2")
        await reader.aclose()
        backend.close()

    asyncio.run(look())

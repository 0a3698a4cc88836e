"""The promises of `AsyncClient` alone: many waits at once, one stream for all, nothing left over after a cancel."""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from driven_client import driven
from owner import secret_file

from tasktrail import AsyncClient, Client, TaskService
from tasktrail.config.settings import Config
from tasktrail.errors import Busy
from tasktrail.events import CreateTask
from tasktrail.events.errors import NotReady, ServiceUnreachable, WaitTimeout
from tasktrail.http.server import HttpServer

Wish = Callable[..., dict[str, Any]]
Many = Callable[..., list[CreateTask]]


@pytest.fixture
def own_server(serve: Callable[..., HttpServer]) -> HttpServer:
    """Start a server without other connections."""
    return serve()


@pytest.fixture
def socket(own_server: HttpServer, tmp_path: Path) -> Path:
    assert own_server.address
    return tmp_path / "other.sock"


def streams_of(server: HttpServer) -> int:
    assert server._server is not None
    return server._server._rooms.unix.streams.total()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)


def at(socket: Path) -> AsyncClient:
    return AsyncClient("http://localhost", socket=socket)


def one_of_many(socket: Path) -> AsyncClient:
    """Return a client with one wait by a request already, so that all further waits share the stream."""
    client = at(socket)
    client._polling = True
    return client


def test_many_tasks_of_a_loop_share_one_client(socket: Path, wish: Wish) -> None:
    async def program() -> None:
        async with at(socket) as client:
            ids = await asyncio.gather(*(client.create_task(**wish()) for _ in range(100)))
            tasks = await asyncio.gather(*map(client.get_task, ids))
            assert [task.id for task in tasks] == ids
            assert len(set(ids)) == 100

    asyncio.run(program())


@pytest.mark.slow
def test_all_that_wait_share_one_stream_and_are_woken_when_their_task_ends(
    socket: Path, own_server: HttpServer, service: TaskService, many: Many
) -> None:
    ids = [answer.task_id for answer in service.send_many(many(300)) if not isinstance(answer, Exception)]

    async def program() -> None:
        async with at(socket) as client:
            waiting = [asyncio.create_task(client.wait(task_id, timeout=60)) for task_id in ids]
            await until(lambda: streams_of(own_server) == 1)
            await asyncio.to_thread(lambda: [service.cancel_task(task_id) for task_id in ids])
            ended = await asyncio.gather(*waiting)
            assert [(task.id, task.status) for task in ended] == [(task_id, "cancelled") for task_id in ids]
            await until(lambda: streams_of(own_server) == 0)

    asyncio.run(program())


def test_a_task_that_ends_while_the_stream_begins_is_not_missed(
    socket: Path, service: TaskService, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between the first look and the position where the stream begins."""
    position = AsyncClient._position
    task_id = service.create_task(**wish())

    async def late(client: AsyncClient) -> int:
        await asyncio.to_thread(service.cancel_task, task_id)
        return await position(client)

    monkeypatch.setattr(AsyncClient, "_position", late)

    async def program() -> None:
        async with one_of_many(socket) as client:
            assert (await client.wait(task_id, timeout=20)).status == "cancelled"

    asyncio.run(program())


def test_without_a_stream_the_task_is_asked_for_again_and_again(
    socket: Path, service: TaskService, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = service.create_task(**wish())

    async def busy(_client: AsyncClient, **_: Any) -> int:
        raise Busy("all streams are open")

    monkeypatch.setattr(AsyncClient, "_position", busy)
    monkeypatch.setattr("tasktrail.api.client.LOOK_AGAIN", 0.01)

    async def program() -> None:
        async with one_of_many(socket) as client:
            waiting = asyncio.create_task(client.wait(task_id, timeout=20))
            with pytest.raises(WaitTimeout):
                await client.wait(task_id, timeout=0.1)
            await asyncio.to_thread(service.cancel_task, task_id)
            assert (await waiting).status == "cancelled"

    asyncio.run(program())


def test_who_waits_alone_needs_no_stream(
    socket: Path, own_server: HttpServer, service: TaskService, wish: Wish
) -> None:
    task_id = service.create_task(**wish())

    async def program() -> None:
        async with at(socket) as client:
            await client.get_task(task_id)
            waiting = asyncio.create_task(client.wait(task_id))
            await until(lambda: service._system.consumers.endings.awaits(task_id))
            assert streams_of(own_server) == 0
            waiting.cancel()
            await until(lambda: not service._system.consumers.endings.awaits(task_id))
            again = asyncio.create_task(client.wait(task_id))
            await until(lambda: service._system.consumers.endings.awaits(task_id))
            await asyncio.to_thread(service.cancel_task, task_id)
            assert (await again).status == "cancelled"
            assert streams_of(own_server) == 0

    asyncio.run(program())


def test_who_stops_waiting_leaves_no_stream_and_disturbs_nobody(
    socket: Path, own_server: HttpServer, service: TaskService, wish: Wish
) -> None:
    task_id = service.create_task(**wish())

    async def program() -> None:
        async with one_of_many(socket) as client:
            first, second = (asyncio.create_task(client.wait(task_id)) for _ in range(2))
            await until(lambda: streams_of(own_server) == 1)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await asyncio.to_thread(service.cancel_task, task_id)
            assert (await second).status == "cancelled"
            third = asyncio.create_task(client.wait(service.create_task(**wish())))
            await until(lambda: streams_of(own_server) == 1)
            third.cancel()
            await until(lambda: streams_of(own_server) == 0)

    asyncio.run(program())


async def _next_of(client: AsyncClient, after: int) -> None:
    async for _record in client.follow(after):
        pass


async def _waiting(client: AsyncClient, after: int) -> None:
    async with aclosing(client.follow(after)) as records:
        await anext(records)


@pytest.mark.parametrize("follow", [_next_of, _waiting])
def test_following_that_is_cancelled_closes_its_connection(
    socket: Path, own_server: HttpServer, service: TaskService, follow: Callable[[AsyncClient, int], Awaitable[None]]
) -> None:
    async def program() -> None:
        async with at(socket) as client:
            following = asyncio.ensure_future(follow(client, service.watermark.position))
            await until(lambda: streams_of(own_server) == 1)
            following.cancel()
            with pytest.raises(asyncio.CancelledError):
                await following
            await until(lambda: streams_of(own_server) == 0)

    asyncio.run(program())


def test_a_loop_that_is_left_closes_its_connection(
    socket: Path, own_server: HttpServer, service: TaskService, wish: Wish
) -> None:
    after = service.watermark.position

    async def program() -> None:
        async with at(socket) as client:
            made = await client.create_task(**wish())
            async for record in client.follow(after):
                if record.task_id == made:
                    break
            await until(lambda: streams_of(own_server) == 0)

    asyncio.run(program())


def test_a_command_that_is_cancelled_on_its_way_can_be_repeated_with_its_id(socket: Path, wish: Wish) -> None:
    async def program() -> None:
        async with at(socket) as client:
            for _ in range(20):
                sending = asyncio.create_task(client.create_task(**wish(command_id=f"once-{wish()['output_file']}")))
                await asyncio.sleep(0.001)
                sending.cancel()
                await asyncio.wait([sending])
            again = {await client.create_task(**wish(command_id=f"once-{wish()['output_file']}")) for _ in range(3)}
            assert len(again) == 1

    asyncio.run(program())


def test_a_closed_client_says_so_to_those_that_wait(socket: Path, service: TaskService, wish: Wish) -> None:
    task_id = service.create_task(**wish())

    async def program() -> None:
        client = at(socket)
        waiting = [asyncio.create_task(client.wait(task_id)) for _ in range(2)]
        await until(lambda: bool(client._polling and client._watch._waiting))
        await client.close()
        for one in waiting:
            with pytest.raises(NotReady, match="closed"):
                await one
        with pytest.raises(NotReady, match="closed"):
            await client.get_task(task_id)

    asyncio.run(program())


def test_another_loop_is_told_to_take_a_client_of_its_own(socket: Path, service: TaskService, wish: Wish) -> None:
    task_id = service.create_task(**wish())

    async def strange(client: AsyncClient) -> None:
        for ask in (client.get_task(task_id), client.wait(task_id), anext(client.follow())):
            with pytest.raises(NotReady, match="another event loop"):
                await ask

    async def program() -> None:
        async with at(socket) as client:
            await client.get_task(task_id)
            await asyncio.to_thread(lambda: asyncio.run(strange(client)))
            assert (await client.get_task(task_id)).id == task_id

    asyncio.run(program())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the first loop left its connection
def test_a_client_goes_on_in_the_next_loop_when_the_first_has_ended(
    socket: Path, own_server: HttpServer, service: TaskService, wish: Wish
) -> None:
    task_id = service.create_task(**wish())
    client = one_of_many(socket)

    async def leave() -> None:
        waiting = asyncio.ensure_future(client.wait(task_id))
        await until(lambda: streams_of(own_server) == 1)
        waiting.cancel()

    async def go_on() -> None:
        waiting = asyncio.ensure_future(client.wait(task_id))
        await until(lambda: streams_of(own_server) == 1)
        await asyncio.to_thread(service.cancel_task, task_id)
        assert (await waiting).status == "cancelled"

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()
    asyncio.run(go_on())
    asyncio.run(client.close())
    with pytest.raises(NotReady, match="closed"):
        asyncio.run(client.get_task(task_id))
    gc.collect()  # here, and not in the next test


def test_closing_waits_for_a_stream_that_still_gives_its_connection_back(
    socket: Path, service: TaskService, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back = False

    async def program() -> None:
        nonlocal given_back
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def slow(_: object) -> AsyncGenerator[int, None]:
            nonlocal given_back
            yield 0
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                await may_end.wait()
                given_back = True

        monkeypatch.setattr(AsyncClient, "_ended", slow)
        client = one_of_many(socket)
        waiting = asyncio.create_task(client.wait(task_id))
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        asyncio.get_running_loop().call_later(0.2, may_end.set)
        await client.close()
        assert given_back

    task_id = service.create_task(**wish())
    asyncio.run(program())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpcore drops what cannot connect
@pytest.mark.parametrize("kind", ["client", "async_client"])
def test_waiting_outlasts_a_service_that_starts_again(tmp_path: Path, wish: Wish, kind: str) -> None:
    data = tmp_path / "data"

    def start() -> tuple[TaskService, HttpServer]:
        service = TaskService.open(data, config=Config(workers=1))
        server = HttpServer(service, socket_path=data / "tasktrail.sock", secret_file=secret_file(tmp_path))
        server.start()
        return service, server

    service, server = start()
    task_id = service.create_task(**wish())
    client = Client.connect(data) if kind == "client" else driven(lambda: AsyncClient.connect(data))
    statuses: list[str] = []
    with client:
        waiting = threading.Thread(target=lambda: statuses.append(client.wait(task_id, timeout=60).status))
        waiting.start()
        pause = threading.Event()
        while not service._system.consumers.endings._waiting and not server._server._rooms.unix.streams:  # type: ignore[union-attr]  # it runs
            pause.wait(0.01)
        assert server.stop()
        service.close()
        service, server = start()
        service.cancel_task(task_id)
        waiting.join()
        assert statuses == ["cancelled"]
        assert server.stop()
        service.close()
        with pytest.raises(ServiceUnreachable):
            client.wait(task_id, timeout=60)
    gc.collect()  # so that those that httpcore drops are dropped here

"""Between the event loop and the service: everything that may block runs in threads of its own.

Commands have their own threads, so that no question delays them, and so have reads of the log for streams. Two
processes (`api/reader_process.py`) answer long questions, and few may wait for one. Planning a batch or changing many
tasks has two threads, and few may wait for them, one request of each token.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from ctypes import CDLL
from functools import partial
from queue import SimpleQueue
from typing import TypeVar, TypeVarTuple

import msgspec

from ..actors.logger import get_logger
from ..actors.side_process import reader_environment
from ..api.commands import Commands
from ..api.either_way import Blocking
from ..api.one_user import OneUser
from ..api.reader_process import (
    PastQuestion,
    Question,
    ReaderProcess,
    RebuildQuestion,
    VerifyQuestion,
    answer_from_past,
    point_of,
)
from ..api.served import Served
from ..batches.files import Patience
from ..batches.request import MadeBatch, NewBatch
from ..errors import Busy, Unauthorized
from ..events import Accepted, Command, CreateGraph, TasktrailError
from ..events.errors import OutcomeUnknown
from ..events.log.event_log import ReportProgress
from ..projections import Rebuilt, TaskFilters, Verification, ViewsFailed
from ..projections.rebuilding import discard
from ..telemetry.exposition import Exposition
from ..telemetry.numbers import OTHER
from .access import Access
from .check import Check
from .connections import StreamBuffers, token_of
from .counting import RequestCounts
from .identity import Identity
from .long_poll import Waiters
from .permissions import authorized, user_of_new_task
from .requests import Item
from .streams import RecordFeed

_ANSWER_WITHIN = 30.0
"""Seconds a command may take to be durable before its outcome is called unknown."""
_COMING = 0.05
"""Seconds between two checks of the position that a reader has reached."""
_COMMANDING, _READING, _FOLLOWING, _BULK = 4, 4, 2, 2
"""Threads for commands, for short questions, for streams, and for calls that may take long."""

_CHANGING, _CHANGES_WAITING = 2, 8
"""Batches, and changes of many tasks: how many are made at once, and how many may wait."""

_APART, _WAITING = 2, 8
"""Long questions: how many are answered at once, and how many may wait."""
_OF_A_TOKEN = 5
"""The most long questions of one token, so that others are answered, too."""

_TRIM_EVERY = 30.0
malloc_trim: Callable[[int], object] | None = getattr(CDLL(None), "malloc_trim", None)
"""Returns memory that Python has freed after a flood to the system; glibc would keep it."""

logger = get_logger("tasktrail.http")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class LoopNews:
    """Calls functions in the event loop, for other threads. Calls that gather until the loop runs wake it once."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._woken = False

    def call_soon(self, loop: asyncio.AbstractEventLoop, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """Have the function called soon; never, once the loop is closed. Thread-safe; `loop` is always the same."""
        self._calls.append(partial(function, *args))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        self._woken = False  # first, so that a call which comes after the last look wakes the loop again
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception:
                logger.exception("an answer could not be given to the loop")  # the others get theirs


class Backend:
    """The service as routes use it, for questions and commands. Belongs to one event loop."""

    def __init__(self, service: Served) -> None:
        self.service = service
        self.requests = RequestCounts()
        self.metrics = Exposition(
            service.numbers,
            service.readings,
            [self.requests],
            lambda kind: kind if kind in service.source.registry else OTHER,
        )
        self.feed = RecordFeed(service)
        self.check = Check()
        self.waiters = Waiters(service)
        self.held = StreamBuffers()
        self._news = LoopNews()
        self._lanes = [ReaderProcess(service.paths, reader_environment()) for _ in range(_APART)]
        self._free: SimpleQueue[ReaderProcess] = SimpleQueue()
        for lane in self._lanes:
            self._free.put(lane)
        self._trim_at = 0.0
        self._asked: Counter[str] = Counter()
        """Long questions under way or waiting, by token; the owner's under the empty name."""
        self._changes: Counter[str] = Counter()
        """Changes of many tasks under way or waiting, by token; the owner's under the empty name."""
        self._apart = ThreadPoolExecutor(_APART, "http-apart")
        self._commanding = ThreadPoolExecutor(_COMMANDING, "http-command")
        self._reading = ThreadPoolExecutor(_READING, "http-read")
        self._following = ThreadPoolExecutor(_FOLLOWING, "http-follow")
        self._bulk = ThreadPoolExecutor(_BULK, "http-bulk")
        self._changing = ThreadPoolExecutor(_CHANGING, "http-change")

    def seen_by(self, who: Identity) -> Served | OneUser:
        """Return the service as `who` sees it: with only one user's tasks, if `who` is bound to that user."""
        return self.service if who.user_id is None else OneUser(self.service, who.user_id)

    async def ask(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function in a thread: it may block briefly and returns little."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, function, *args)

    async def bulk(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function that may take long. Few run at once, since Python divides its time among all threads."""
        return await asyncio.get_running_loop().run_in_executor(self._bulk, function, *args)

    async def follow(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Read the log for a stream. Its threads do nothing else, so a stream waits only for other streams."""
        return await asyncio.get_running_loop().run_in_executor(self._following, function, *args)

    async def change(self, who: Identity, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function that changes many tasks. Raises `Busy` if the token has one under way, or there are many."""
        number, token = self._changes.total(), token_of(who)
        if number >= _CHANGING + _CHANGES_WAITING:
            message = f"{number} requests for many tasks are under way already, which is the limit"
        elif token and self._changes[token]:
            message = "A request for many tasks is under way already with this token, and one is the limit"
        else:
            self._changes[token] += 1
            try:
                return await asyncio.get_running_loop().run_in_executor(self._changing, function, *args)
            finally:
                self._changes -= Counter({token: 1})  # which keeps no zeros
        raise Busy(message, remedy="Ask again in a few seconds, and not for several at once.")

    async def apart(
        self,
        question: Question,
        within: float | None = None,
        progress: ReportProgress | None = None,
        *,
        who: Identity | None = None,
    ) -> bytes:
        """Have a process answer a long question, as JSON. `within`: seconds. Raises `Busy`, `TooCostly`.

        `progress` is called in a thread.
        """
        number, token = self._asked.total(), token_of(who)
        if number >= _APART + _WAITING:
            message = f"{number} long questions are being answered already, which is the limit"
        elif token and self._asked[token] >= _OF_A_TOKEN:
            message = f"{_OF_A_TOKEN} long questions of this token are being answered already, the limit for one token"
        else:
            self._asked[token] += 1
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._apart, self._ask_apart, question, within, progress
                )
            finally:
                self._asked -= Counter({token: 1})  # which keeps no zeros
        raise Busy(message, remedy="Ask again in a few seconds, and not so many at once.")

    async def past(self, question: PastQuestion, kind: type[T], within: float, who: Identity | None) -> T:
        """Answer a question about the past from the views; else by a process that folds the log, `within` seconds."""
        try:
            found = await self.ask(
                self.service.at_once, point_of(question), lambda past: answer_from_past(past, question)
            )
        except ViewsFailed:
            return msgspec.json.decode(await self.apart(question, within, who=who), type=kind)
        assert isinstance(found, kind)
        return found

    async def verify(self, by: str) -> Verification:
        """Check everything. Raises `NotReady` while another check runs."""

        async def ask(progress: ReportProgress) -> bytes:
            await self.ask(self.service.source.settle)
            return await self.apart(VerifyQuestion(), progress=progress)

        return await self.check.run(ask, self.service.source.clock.now, by)

    async def rebuild(self) -> Rebuilt:
        """Build the views anew beside the live ones, and put them in place. Raises `NotReady` while that is done."""
        with self.service.rebuilding():
            await self.ask(self.service.source.settle)
            try:
                built: Rebuilt = msgspec.json.decode(await self.apart(RebuildQuestion()), type=Rebuilt)
            except TasktrailError:  # its process may have been killed, and could not tidy up
                discard(self.service.paths.views)
                raise
            await self.bulk(self.service.adopt_views)
        return built

    def _ask_apart(self, question: Question, within: float | None, progress: ReportProgress | None) -> bytes:
        lane = self._free.get()
        try:
            return lane.ask(question, within, progress)
        finally:
            self._free.put(lane)

    def tidy(self, now: float) -> bool:
        """Release processes that have ended, hang or idle, and memory. Returns whether any process needs further care.

        Called on each tick of the server, with the loop's time.
        """
        busy = [*(lane.tidy() for lane in self._lanes), self.service.pictures.tidy()]
        if malloc_trim is not None and now >= self._trim_at:
            self._trim_at = now + _TRIM_EVERY
            self._bulk.submit(malloc_trim, 0)
        return any(busy)

    async def read(self, min_position: int, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function of the service once the log has `min_position`. It sees everything that is durable."""
        await self._wait_for(min_position)

        def reading() -> T:
            if min_position:
                self.service.find(min_position, "min_position")
            return function(*args)

        return await self.ask(reading)

    async def reach(self, position: int, field: str) -> None:
        """Make sure that the log has `position`. Raises `BeyondTheLog`, or `NotReady`, for the field if it has not."""
        await self._wait_for(position)
        if position > self.service.watermark.position:
            await self.ask(self.service.find, position, field)

    async def _wait_for(self, position: int) -> None:
        """Wait until the log has the position, at most as long as a reader may need. No thread waits meanwhile."""
        watermark, now = self.service.watermark, asyncio.get_running_loop().time
        until = now() + self.service.patience
        while watermark.position < position and now() < until:  # noqa: ASYNC110 - it comes in another thread
            await asyncio.sleep(_COMING)

    async def send(self, who: Identity, decode: Callable[[], Sequence[Item]]) -> list[Accepted | TasktrailError]:
        """Decode and submit in a thread, as far as `who` may. Returns an answer for each, once durable or refused.

        Every command that comes over HTTP, from whichever route or page, passes here or through `commands_of`.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[list[Accepted | TasktrailError]] = loop.create_future()
        items: Sequence[Item] = ()
        since: float | None = None
        clock: asyncio.TimerHandle

        def hand_over() -> None:
            nonlocal items, since
            try:
                items = [_allowed(self.service, who, item) for item in decode()]
                commands = [item for item in items if not isinstance(item, TasktrailError)]
                since = loop.time()
                if commands:
                    self.service.submit(commands, reply, checked=True, only_user=who.user_id)
                else:
                    reply([])
            except BaseException as error:  # noqa: BLE001 - passed on to the caller
                self._news.call_soon(loop, _fail, answered, error)

        def reply(answers: list[Accepted | TasktrailError]) -> None:
            self._news.call_soon(loop, _settle, answered, answers)

        def look() -> None:
            """Give up when the time is over, which counts from the moment the commands are handed over."""
            nonlocal clock
            left = _ANSWER_WITHIN if since is None else since + _ANSWER_WITHIN - loop.time()
            if since is None or left > 0:
                clock = loop.call_later(left, look)
            else:
                _fail(answered, _unanswered(items))

        clock = loop.call_later(_ANSWER_WITHIN, look)
        self._commanding.submit(hand_over)
        try:
            answers = await answered
        finally:
            clock.cancel()
        following = iter(answers)
        return [item if isinstance(item, TasktrailError) else next(following) for item in items]

    def commands_of(self, who: Identity, access: Access, patience: Patience | None = None) -> "CommandsOf":
        """Return the commands for work that has its own thread and may take long. `patience`: for a batch."""
        return CommandsOf(self.service, self.seen_by(who), who, access, patience)

    def close(self) -> None:
        """Stop the threads and processes. Call it last: requests under way need them until they end."""
        self.feed.close()
        for lane in self._lanes:
            lane.close()
        for threads in (self._commanding, self._reading, self._following, self._bulk, self._changing, self._apart):
            threads.shutdown(wait=False, cancel_futures=True)


class CommandsOf(Commands, Blocking):
    """All commands as `who` may send them, while the credential is valid: revoking it ends the work, too."""

    def __init__(
        self, service: Served, seen: Served | OneUser, who: Identity, access: Access, patience: Patience | None = None
    ) -> None:
        self._service = service
        self._seen = seen
        self._who = who
        self._access = access
        self._patience = patience

    async def _send_all(self, commands: Sequence[Command], *, checked: bool) -> list[Accepted | TasktrailError]:
        return self._submit(commands, checked=checked)

    def _submit(
        self, commands: Sequence[Command], *, checked: bool, of_batch: bytes | None = None
    ) -> list[Accepted | TasktrailError]:
        if not self._access.holds(self._who.credential):
            raise Unauthorized(f"The credential of {self._who.name} is no longer valid, so its work ends here")
        items = [_allowed(self._service, self._who, command) for command in commands]
        allowed = [item for item in items if not isinstance(item, TasktrailError)]
        answered: Future[list[Accepted | TasktrailError]] = Future()
        user_id = self._who.user_id
        self._service.submit(allowed, answered.set_result, checked=checked, only_user=user_id, of_batch=of_batch)
        try:
            following = iter(answered.result(_ANSWER_WITHIN))
        except TimeoutError:
            raise _unanswered(items) from None
        return [item if isinstance(item, TasktrailError) else next(following) for item in items]

    async def _find_ids(self, filters: TaskFilters) -> list[int]:
        return self._seen.ids_of(filters)

    async def _make_batch(self, wanted: NewBatch) -> MadeBatch:
        async def send(graph: CreateGraph, of_batch: bytes) -> Accepted | TasktrailError:
            return self._submit([graph], checked=False, of_batch=of_batch)[0]

        try:  # here already, because a dry run sends nothing
            wanted = msgspec.structs.replace(wanted, user_id=user_of_new_task(self._who, wanted.user_id))
        except TasktrailError as error:
            if not wanted.dry_run:
                self._service.note_refusal(self._who.name, wanted, error)
            raise
        return await self._service.carry_out_batch(wanted, self._who.name, self._who.user_id, send, self._patience)


def _allowed(service: Served, who: Identity, item: Item) -> Item:
    if isinstance(item, TasktrailError):
        return item
    try:
        return authorized(who, item)
    except TasktrailError as error:
        service.note_refusal(who.name, item, error)
        return error


def _settle(answered: asyncio.Future[T], answer: T) -> None:
    if not answered.done():
        answered.set_result(answer)


def _fail(answered: asyncio.Future[T], error: BaseException) -> None:
    if not answered.done():
        answered.set_exception(error)


def _unanswered(items: Sequence[Item]) -> OutcomeUnknown:
    ids = [item.command_id or "(none)" for item in items if not isinstance(item, TasktrailError)]
    more = f" and {len(ids) - 1} more" if ids[1:] else ""
    sent = f"the command with id {ids[0]}{more}" if ids else "no command"
    return OutcomeUnknown(f"No answer within {_ANSWER_WITHIN:g} s to {sent}")

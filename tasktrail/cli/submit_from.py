"""The files that `tasktrail submit` reads: a stream of commands (`--from`), or one graph of tasks (`--graph`).

Commands of a stream that have arrived are sent together, without waiting for more; while the service makes them
durable, the next lines gather in the pipe. So a slow producer gets each answer at once, and a fast one shares commits.
"""

from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import Any, BinaryIO

import msgspec
from msgspec.structs import replace

from ..api.protocol import Tasks
from ..errors import TooLarge, problem
from ..events import Accepted, Command, CreateGraph, CreateTask, TasktrailError
from ..events.commands import PATH_FIELDS
from ..events.errors import NotReady, ServiceUnreachable
from ..http.requests import MAX_COMMAND
from ..intake.conversion import new_command_id
from ..intake.refusals import refusal
from ..intake.whole_numbers import decode
from .failing import DONE, exit_code, json_bytes
from .fields import absolute, default_actor, surrounding_trace
from .terminal import for_stream

MOST_AT_ONCE = 1000
"""The most commands that are sent together."""
_CHUNK = 256 * 1024

_decoder = msgspec.json.Decoder(Command)
_encoder = msgspec.json.Encoder()


class InputLine(msgspec.Struct, frozen=True, gc=False):
    """A line of input: a command, or the reason why it is none."""

    line: int
    says: Command | TasktrailError


def send_stream(tasks: Tasks, source: BufferedReader, target: BinaryIO) -> int:
    """Send every line of `source` as a command and write an answer line for each, in order. Returns the exit code.

    Empty lines are skipped. If the service goes away, the commands just sent are answered with a problem that says so
    and has the command's id; the rest is not sent.
    """
    code = DONE
    for items in batches(source, default_actor()):
        answers = _answers(tasks, items)
        target.write(for_stream(b"".join(map(_answer_line, items, answers)), target))
        target.flush()
        for answer in answers:
            if isinstance(answer, TasktrailError):
                code = max(code, exit_code(answer))
                if isinstance(answer, ServiceUnreachable):
                    return code
    return code


def batches(source: BufferedReader, actor: str) -> Iterator[list[InputLine]]:
    """Yield the lines as they arrive, at most `MOST_AT_ONCE` together."""
    number = 0
    for lines in _arriving(source):
        items = []
        for line in lines:
            number += 1
            if line.strip():
                items.append(InputLine(number, _decode(line, actor)))
        for start in range(0, len(items), MOST_AT_ONCE):
            yield items[start : start + MOST_AT_ONCE]


def _arriving(source: BufferedReader) -> Iterator[list[bytes]]:
    """Yield whole lines, as many as one read returns. A line too long for a command is cut, and refused later."""
    rest = b""
    while chunk := source.read1(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[: MAX_COMMAND + 1]
        if lines:
            yield lines
    if rest:
        yield [rest]


def _decode(line: bytes, actor: str) -> Command | TasktrailError:
    if len(line) > MAX_COMMAND:
        return TooLarge(f"The line is longer than {MAX_COMMAND:,} bytes")
    try:
        command = decode(_decoder, line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return refusal(error, line)
    changes: dict[str, Any] = {}
    if not command.actor:
        changes["actor"] = actor
    if not command.command_id:
        changes["command_id"] = new_command_id()
    if isinstance(command, CreateTask | CreateGraph) and not command.traceparent:
        changes["traceparent"] = surrounding_trace()
    if isinstance(command, CreateTask):
        for field in PATH_FIELDS:
            path = getattr(command, field)
            if path and not path.startswith("/"):
                changes[field] = absolute(path)
    if isinstance(command, CreateGraph):
        changes["tasks"] = tuple(
            replace(task, **{name: absolute(getattr(task, name)) for name in PATH_FIELDS}) for task in command.tasks
        )
    completed: Command = replace(command, **changes) if changes else command
    return completed


def _answers(tasks: Tasks, items: Sequence[InputLine]) -> list[Accepted | TasktrailError]:
    """An answer for each item, in order."""
    commands = [item.says for item in items if not isinstance(item.says, TasktrailError)]
    try:
        answers = iter(tasks.send_many(commands) if commands else ())
        return [item.says if isinstance(item.says, TasktrailError) else next(answers) for item in items]
    except (ServiceUnreachable, NotReady) as error:
        return [item.says if isinstance(item.says, TasktrailError) else error for item in items]


def _answer_line(item: InputLine, answer: Accepted | TasktrailError) -> bytes:
    if isinstance(answer, Accepted):
        return _encoder.encode(answer) + b"\n"
    known = {} if isinstance(item.says, TasktrailError) else {"command_id": item.says.command_id}
    return json_bytes(problem(answer, line=item.line, **known)) + b"\n"


def read_graph(source: BufferedReader, given: dict[str, Any]) -> "CreateGraph":
    """Read a graph from a file: an array of tasks, or an object with `tasks`. Paths count from the current folder.

    Raises `Malformed`, `InvalidValue` or `TooLarge`.
    """
    from ..errors import TooLarge
    from ..events import CreateGraph
    from ..events.values import byte_order_mark
    from ..http.requests import MAX_COMMAND
    from ..intake.conversion import command_from_fields, new_command_id
    from ..intake.refusals import refusal
    from ..intake.whole_numbers import with_whole_numbers

    data = source.read(MAX_COMMAND + 1)
    if len(data) > MAX_COMMAND:
        raise TooLarge(f"The graph is longer than {MAX_COMMAND:,} bytes")
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        unreadable = refusal(error, data)
        unreadable.message = f"{source.name} is no JSON that can be read: {unreadable.message}"
        if not byte_order_mark(data):
            unreadable.advice = "The file holds one array of tasks, or an object with `tasks`."
        raise unreadable from error
    fields = {"tasks": body} if isinstance(body, list) else dict(body) if isinstance(body, dict) else {}
    fields.pop("command", None)
    for task in fields.get("tasks") or ():
        if isinstance(task, dict):
            task.update({name: absolute(task[name]) for name in PATH_FIELDS if isinstance(task.get(name), str)})
    fields.update({name: value for name, value in given.items() if value is not None})
    fields.setdefault("actor", default_actor())
    fields.setdefault("command_id", new_command_id())
    fields.setdefault("traceparent", surrounding_trace())
    command: CreateGraph = command_from_fields(CreateGraph, with_whole_numbers(fields, CreateGraph))
    return command

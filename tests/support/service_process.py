"""A service to be killed: commands as JSON lines on standard input, an answer line for each on standard output.

Arguments: data folder, number of workers. Says `ready` once commands are accepted, and ends when its input does.
An answer is written when, and only when, the service has promised that the command is durable.
"""

import sys
import threading
from pathlib import Path

import msgspec

from tasktrail.config import Config
from tasktrail.events import Accepted, TaskCommand, TasktrailError
from tasktrail.service import TaskService


def main() -> None:
    data, workers = Path(sys.argv[1]), int(sys.argv[2])
    lock = threading.Lock()
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(TaskCommand).decode

    def answer(command_id: str, said: list[Accepted | TasktrailError]) -> None:
        (one,) = said
        code = "" if isinstance(one, Accepted) else one.code
        place = (one.task_id, one.position) if isinstance(one, Accepted) else (0, 0)
        with lock:
            sys.stdout.buffer.write(encode([command_id, code, *place]) + b"\n")
            sys.stdout.buffer.flush()

    config = Config(workers=workers, handlers=("crash_handlers",), grace_period=0.2)
    with TaskService.open(data, config=config) as service:
        sys.stdout.buffer.write(b'"ready"\n')
        sys.stdout.buffer.flush()
        for line in sys.stdin.buffer:
            command = decode(line)
            service.submit([command], lambda said, of=command.command_id: answer(of, said))  # type: ignore[misc]


main()

"""A service to be killed: commands as JSON lines on standard input, an answer line for each on standard output.

Arguments: data folder, number of workers. Says `ready` once commands are accepted. When its input ends it compares the
Scheduler's memory with a fresh fold of the log, says `same` or what differs, and stops in good order. An answer is
written when, and only when, the service has promised that the command is durable.
"""

import sys
import threading
from pathlib import Path

import msgspec

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.messages import StateQuery
from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Accepted, Command, TasktrailError
from tasktrail.log_setup import set_up_logging


def main() -> None:
    data, workers = Path(sys.argv[1]), int(sys.argv[2])
    lock = threading.Lock()
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Command).decode

    def answer(command_id: str, said: list[Accepted | TasktrailError]) -> None:
        (one,) = said
        code = "" if isinstance(one, Accepted) else one.code
        place = (one.task_id, one.position) if isinstance(one, Accepted) else (0, 0)
        with lock:
            sys.stdout.buffer.write(encode([command_id, code, *place]) + b"\n")
            sys.stdout.buffer.flush()

    set_up_logging("warning")  # standard output is for answers
    config = Config(workers=workers, handlers=("crash_handlers",), grace_period=0.2, snapshot_every=50)
    with TaskService.open(data, config=config) as service:
        sys.stdout.buffer.write(b'"ready"\n')
        sys.stdout.buffer.flush()
        for line in sys.stdin.buffer:
            command = decode(line)
            service.submit([command], lambda said, of=command.command_id: answer(of, said))  # type: ignore[misc]
        comparison = encode(compared(service))  # before the lock: the Scheduler takes it to answer
        with lock:
            sys.stdout.buffer.write(comparison + b"\n")
            sys.stdout.buffer.flush()


def compared(service: TaskService) -> str:
    """Memory as of a position, beside the log folded up to there."""
    position, live = service._system.scheduler.ask(
        StateQuery(lambda state: (state.position, dict(state.tasks))), timeout=60
    )
    folded = SchedulerState(Limits(), grace={})
    for record in service.log(0, position):
        folded.apply(record, record.position)
    open_tasks = {task_id: task for task_id, task in folded.tasks.items() if not task.finished}
    odd = [task_id for task_id in open_tasks.keys() | live.keys() if live.get(task_id) != folded.tasks[task_id]]
    return "same" if not odd else f"memory differs from the log at {position} for tasks {sorted(odd)[:5]}"


main()

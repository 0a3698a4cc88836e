"""People and programs: they send commands, sensible or not, repeat them when in doubt, and check the answers.

`wishes.py` and `operator_wishes.py` have the possible commands.
"""

from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import TypeAlias

from broken import broken, must
from eyes import NODE_WISHES, WISHES, Eyes
from ledger import Ledger
from msgspec.structs import replace
from operator_wishes import undo
from sim_notifier import Receivers

from tasktrail.actors.core.messages import Intake, Submit
from tasktrail.actors.messages import Ticket
from tasktrail.events import Accepted, Command, CreateTask, TasktrailError
from tasktrail.events.commands import digest
from tasktrail.events.errors import CommandIdReused, Fenced, OutcomeUnknown
from tasktrail.events.task_events import Estimated

Answer: TypeAlias = Accepted | TasktrailError

USUAL = (0.5, 1.0, 1.0, 2.0)
SWARM = (0.0, 0.3, 1.0, 1.0, 3.0)
"""Each world has its own mixture of wishes; the rare ones are missing in some."""


class Asked:
    """A command that was sent once or several times."""

    def __init__(self, command: Command, intake: Intake) -> None:
        self.command = command
        self.intake = intake
        self.accepted: Accepted | None = None
        self.refused = False


class People:
    """Everyone who sends commands. They outlive the service."""

    def __init__(self, rng: Random, ledger: Ledger, receivers: Receivers, *, nodes: bool) -> None:
        self.eyes = Eyes(rng, ledger, receivers, nodes=nodes)
        wishes = WISHES | NODE_WISHES if nodes else WISHES
        self._wishes = [(make, often * rng.choice(USUAL if often >= 1 else SWARM)) for make, often in wishes.items()]
        self._rng = rng
        self._ledger = ledger
        self._ids = 0
        self._recent: list[Asked] = []
        self.waiting: dict[int, str] = {}
        """Commands that the service has received and not answered: number of the sending → command id."""
        self._sendings = 0
        self.in_doubt: dict[str, Asked] = {}
        """Commands with an unknown result: no answer yet, or "unknown"."""

    def send(self, now: datetime, failing: Callable[[], bool]) -> Submit:
        """Send a new command. `failing` says whether the answer comes because a commit has failed."""
        self._ids += 1
        self.eyes.now = now
        makers, weights = zip(*self._wishes, strict=True)
        make = self._rng.choices(makers, weights)[0]
        asked = Asked(*make(self.eyes, str(self._ids)))
        self._recent.append(asked)
        if len(self._recent) > 40:
            del self._recent[:20]
        return self._submit(asked, failing)

    def repeat(self, failing: Callable[[], bool]) -> Submit | None:
        """Send the same command once more, with its id, whether it was answered or not."""
        return self._submit(self._rng.choice(self._recent), failing) if self._recent else None

    def reuse_an_id(self, failing: Callable[[], bool]) -> Submit | None:
        """Send another command under an id that is taken."""
        taken = [asked for asked in self._recent if asked.accepted is not None]
        if not taken:
            return None
        asked = self._rng.choice(taken)
        other = CreateTask(type="another", command_id=asked.command.command_id)

        def reply(answer: Answer) -> None:
            allowed = isinstance(answer, CommandIdReused | OutcomeUnknown | Fenced)
            must(allowed, f"I1: another command under the id {other.command_id} is answered with {answer!r}")
            if failing() and not isinstance(answer, OutcomeUnknown):
                broken(f"I14: the commit failed, and {other.command_id} is told {answer!r}")

        return Submit(other, Intake(), Ticket(reply, other.command_id, digest(other)))

    def ask_again(self, failing: Callable[[], bool]) -> list[Submit]:
        """Repeat a command whose result is in doubt."""
        return [self._submit(asked, failing) for asked in self.in_doubt.values()]

    def undo(self, failing: Callable[[], bool]) -> list[Submit]:
        """Let operators take back everything that keeps tasks from starting."""
        return [self._submit(self._asked(command), failing) for command in undo(self.eyes)]

    def rush(self, failing: Callable[[], bool]) -> list[Submit]:
        """Create many small tasks at once, and among them a large one, which is wanted first."""
        found = []
        for memory in (9, *(1,) * self._rng.randint(2, 8)):
            task = CreateTask(type="plain", options={"fate": ""}, priority=10 if memory > 1 else 0)
            asked = self._asked(task, Intake(estimate=Estimated(memory=memory)))
            found.append(self._submit(asked, failing))
        return found

    def _asked(self, command: Command, intake: Intake | None = None) -> Asked:
        self._ids += 1
        return Asked(replace(command, command_id=str(self._ids)), intake or Intake())

    def _submit(self, asked: Asked, failing: Callable[[], bool]) -> Submit:
        command = asked.command
        self.in_doubt[command.command_id] = asked
        return Submit(
            command, asked.intake, Ticket(self._reply_to(asked, failing), command.command_id, digest(command))
        )

    def _reply_to(self, asked: Asked, failing: Callable[[], bool]) -> Callable[[Answer], None]:
        self._sendings += 1
        number = self._sendings
        self.waiting[number] = asked.command.command_id

        def reply(answer: Answer) -> None:
            self.waiting.pop(number, None)
            self._hear(asked, answer, failing=failing())

        return reply

    def lost(self) -> None:
        """Lose the last sending on its way."""
        self.waiting.pop(self._sendings, None)

    def _hear(self, asked: Asked, answer: Answer, *, failing: bool) -> None:
        command_id = asked.command.command_id
        if isinstance(answer, OutcomeUnknown | Fenced):
            return
        if failing:
            broken(f"I14: the commit failed, and command {command_id} is told {answer!r}")
        if isinstance(answer, Accepted):
            self._ledger.check_answer(answer)
            if asked.accepted not in (None, answer):
                broken(f"I1: command {command_id} was accepted as {asked.accepted}, and now as {answer}")
            asked.accepted = answer
        else:
            must(asked.accepted is None, f"I1: command {command_id} was accepted, and now refused: {answer!r}")
            must(isinstance(answer, TasktrailError), f"I10: {answer!r} is no answer")
            asked.refused = True
        self.in_doubt.pop(command_id, None)

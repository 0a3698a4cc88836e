"""`tasktrail erase`: erases the personal data of a user's tasks for ever."""

from typing import TYPE_CHECKING

import click

from ..events.commands import EraseUser
from ..events.counted import counted
from .command import CliCommand, pass_session
from .fields import reason_and_actor
from .operate import actor_and_reason, send
from .parameters import WholeParam
from .session import Session
from .terminal import print_json, say

if TYPE_CHECKING:
    from ..events.log.event_log import Erasable


@click.command(
    "erase",
    cls=CliCommand,
    examples=[
        ("tasktrail erase 7 --dry-run", "what there is of user 7, and what would stay"),
        ("tasktrail erase 7 --reason 'request of 3 May'", "comes back when no file of the data folder holds it"),
    ],
)
@click.argument("user_id", type=WholeParam(1, 2**53), metavar="USER")
@click.option("--partly", is_flag=True, help="Even if some tasks were recorded before encryption and stay readable.")
@click.option("--dry-run", is_flag=True, help="Only report how much it would be.")
@reason_and_actor
@pass_session
def erase_command(
    session: Session, user_id: int, reason: str | None, actor: str | None, *, partly: bool, dry_run: bool
) -> None:
    """Erase the personal data of a user's tasks for ever, by destroying the keys that encrypt it.

    The service has to run, and to have had `personal_data = "encrypted"` in its configuration from before the tasks
    were created. All tasks of the user must be over. Backups hold no keys; bundles, exports and notices that were sent
    cannot be called back.
    """
    if dry_run:
        _print_erasable(session, session.environment.erasable(session, user_id))
        return
    fields = {"user_id": user_id, "partly": partly, **actor_and_reason(reason, actor)}
    _wait_until_finished(session, send(session, EraseUser, fields).position)


def _print_erasable(session: Session, erasable: "Erasable") -> None:
    if session.as_json:
        print_json(erasable)
        return
    numbers = (("task", erasable.tasks), ("record", erasable.records))
    many = ", ".join(counted(number, word) for word, number in numbers)
    say(f"would be erased of user {erasable.user_id}: {many}")
    if erasable.plain:
        say(f"tasks that stay readable, because they were recorded before encryption: {erasable.plain}")
        say("because of them, `erase` needs --partly")


def _wait_until_finished(session: Session, position: int) -> None:
    from ..events.system_events import ErasureFinished, UserErased

    erased_text = ""
    with session.tasks() as tasks:
        for record in tasks.follow(position - 1, events=("user_erased", "erasure_finished")):
            match record.event:
                case UserErased(tasks=erased, plain=plain) if record.position == position:
                    stays = f", while {counted(plain, 'stays', 'stay')} readable" if plain else ""
                    erased_text = f"erased: the personal data of {counted(len(erased), 'task')}{stays}; "
                case ErasureFinished(erasure=erasure) if erasure == position:
                    say(f"{erased_text}finished at position {record.position}", err=session.as_json)
                    return

"""`tasktrail verify`: is the history what was recorded, and do views and snapshots say what it says?"""

from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..failing import CHECK_FAILED, DONE, complain
from ..output import print_json, say
from ..session import Session
from ..words import plain
from .counting import counting

if TYPE_CHECKING:
    from ...projections import Verification


@click.command(
    "verify",
    cls=Command,
    examples=[
        ("tasktrail verify", "the whole log of ./tasktrail-data; exit code 4 when something is wrong"),
        ("tasktrail verify --data /backup/tasks --json", "a backup, for a program"),
    ],
)
@click.option("--seals", metavar="FILE", help="Compare with heads of the log that were kept elsewhere.")
@pass_session
def command(session: Session, seals: str | None) -> int:
    """Check the log, the views and the snapshots: hash chain, gaps, state machine, both equal to the fold.

    It reads the files of the data folder, whether a service runs or not; with --url the service checks its own.
    """
    from ...events.errors import LogCorrupt, NotYet

    if seals is not None:
        raise NotYet("Seals cannot be compared yet", remedy="Compare the head that is printed with one kept elsewhere.")
    try:
        with counting("checking") as progress:
            found = session.doors.verify(session, progress)
    except LogCorrupt as error:
        complain(error, as_json=session.as_json)
        return CHECK_FAILED
    if session.as_json:
        print_json(found)
    else:
        _print(found)
    return DONE if found.ok else CHECK_FAILED


def _print(found: "Verification") -> None:
    for finding in found.findings:
        say(f"position {finding.position}: {finding.code}: {plain(finding.message)}")
    for remedy in dict.fromkeys(finding.remedy for finding in found.findings if finding.remedy):
        say(f"  {remedy}")
    if found.more:
        say(f"and {found.more} more")
    views = f"views equal to the fold at {found.views_position}" if found.views_position is not None else "no views"
    sound = f"sound; {views}" if found.ok else f"NOT sound: {len(found.findings) + found.more} findings"
    say(f"{found.records} records, {found.tasks} tasks, {found.answers} answers: {sound}")
    say(f"head {found.position} {found.head}")

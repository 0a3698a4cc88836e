"""`tasktrail doctor`: what this machine can promise."""

import click

from ..base import Command, pass_session
from ..failing import DONE, REFUSED
from ..output import fitted, print_json
from ..session import Session
from ..words import plain

_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command(
    "doctor",
    cls=Command,
    examples=[
        ("tasktrail doctor", "this machine and ./tasktrail-data; exit code 1 when something must be put right"),
        ("tasktrail doctor --data /srv/tasks --json", "a line of JSON for each finding"),
    ],
)
@pass_session
def command(session: Session) -> int:
    """Check the machine and the data folder, and say what is weaker here than it could be. Changes nothing."""
    session.files_only("doctor")
    from ...doctor.examine import examine, worst

    findings = examine(session.data, session.load_config() if session.config else None)
    width = session.paper().width
    for finding in findings:
        if session.as_json:
            print_json(finding)
            continue
        mark, colour = _MARKS[finding.level]
        told = f"{mark}  {finding.name}: {plain(finding.message)}"
        told += f"\n      {plain(finding.remedy)}" if finding.remedy else ""
        first, *more = told.split("\n")
        shown = "\n".join([fitted(first, width, "      "), *(fitted(line, width) for line in more)])
        click.echo(shown.replace(mark, click.style(mark, fg=colour), 1))
    return REFUSED if worst(findings) == "fail" else DONE

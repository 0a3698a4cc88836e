"""`tasktrail doctor`: what this machine can promise."""

import click

from ..base import Command, pass_session
from ..failing import DONE, REFUSED
from ..output import print_json
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
    for finding in findings:
        if session.as_json:
            print_json(finding)
            continue
        mark, colour = _MARKS[finding.level]
        click.echo(f"{click.style(mark, fg=colour)}  {finding.name}: {plain(finding.message)}")
        if finding.remedy:
            click.echo(f"      {plain(finding.remedy)}")
    return REFUSED if worst(findings) == "fail" else DONE

"""`tasktrail verify`, `rebuild`, `doctor`, `backup`, `restore`: commands that work on the files of a data folder."""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..events.counted import counted
from ..words import moment, size
from .command import CliCommand, pass_session
from .failing import CHECK_FAILED, DONE, REFUSED, complain, keeping
from .fields import default_actor, reason_and_actor
from .parameters import GivenPathParam, GivenTextParam, TargetParam
from .progress import counting
from .proof import KEY_OPTION, authorities_in, public_key_of, witness_keys
from .session import Session
from .terminal import fitted, plain, print_json, say

if TYPE_CHECKING:
    from ..projections import Verification


@click.command(
    "verify",
    cls=CliCommand,
    examples=[
        ("tasktrail verify", "the whole log of ./tasktrail-data; exit code 4 if something is wrong"),
        ("tasktrail verify --data /backup/tasks --json", "a backup, for a program"),
        ("tasktrail verify --seals /mnt/kept/seals --key /mnt/kept/key", "and as it was when it was sealed"),
    ],
)
@click.option(
    "--seals", metavar="DIR", type=GivenPathParam(), help="Compare the log with these seals, best kept elsewhere."
)
@KEY_OPTION
@click.option(
    "--witness",
    "witnesses",
    metavar="KEY|FILE",
    type=GivenTextParam(),
    multiple=True,
    help="A witness that must have signed; may be repeated. Without it, those of `tasktrail witness list` "
    "are reported.",
)
@click.option(
    "--authority",
    metavar="FILE",
    type=GivenPathParam(),
    help="Root certificate of the time authority, in PEM: its stamps must be valid.",
)
@pass_session
def verify_command(
    session: Session, seals: Path | None, key: str | None, witnesses: tuple[str, ...], authority: Path | None
) -> int:
    """Check the log (hash chain, gaps, state machine), and that views and snapshots equal its fold.

    It reads the files of the data folder, whether a service runs or not; with --url the service checks its own.
    """
    from ..events.errors import HistoryMissing, LogCorrupt

    if seals is None and (key is not None or witnesses or authority is not None):
        raise click.UsageError("--key, --witness and --authority are for --seals")
    check = None
    if seals is not None:
        session.files_only("verify --seals")
        from ..projections.proof.seals import SealCheck, public_key

        key_texts = witnesses or _own_witnesses(session)
        check = SealCheck(
            seals,
            public_key_of(key) or public_key(seals),
            witness_keys(key_texts),
            needed=bool(witnesses),
            authorities=authorities_in(authority),
        )
    try:
        with counting("checking") as progress:
            verification = session.environment.verify(session, progress, check)
    except (LogCorrupt, HistoryMissing) as error:
        from ..projections.findings import RESTORE

        if error.advice == LogCorrupt.remedy:
            error.advice = RESTORE  # the usual advice is to run `verify`
        complain(error, as_json=session.as_json)
        return CHECK_FAILED
    code = DONE if verification.ok else CHECK_FAILED
    with keeping(code, as_json=session.as_json):
        if session.as_json:
            print_json(verification)
        else:
            _print_verification(verification)
    return code


def _own_witnesses(session: Session) -> list[str]:
    """Return the keys of this folder's witnesses. A damaged list is reported, but does not stop the check."""
    from ..paths import DataPaths
    from ..projections.errors import WitnessesDamaged
    from ..projections.proof.witness_list import read_witnesses

    try:
        return [one.key for one in read_witnesses(DataPaths(session.data).witnesses)]
    except WitnessesDamaged as error:
        complain(error, as_json=session.as_json)
        return []


def _print_verification(found: "Verification") -> None:
    for finding in found.findings:
        say(f"position {finding.position}: {finding.code}: {plain(finding.message)}")
    for remedy in dict.fromkeys(finding.remedy for finding in found.findings if finding.remedy):
        say(f"  {remedy}")
    if found.more:
        say(f"and {found.more} more")
    compared = found.views_position is not None
    views = f"views equal to the fold at {found.views_position}" if compared else "no views compared"
    number = len(found.findings) + found.more
    verdict = "sound" if found.ok else f"NOT sound: {counted(number, 'finding')}"
    sound = verdict if compared and not found.ok else f"{verdict}; {views}"
    answers = counted(found.answers, "answer")
    say(f"{counted(found.records, 'record')}, {counted(found.tasks, 'task')}, {answers}: {sound}")
    if found.stubs or found.drops:
        stubs = counted(found.stubs, "stub")
        drops = counted(found.drops, "record")
        say(f"{stubs}, {found.stubs_of_service} of them of the service, made by {drops}")
    if found.without_key:
        records = counted(found.without_key, "record")
        say(
            f"{records} whose personal data cannot be read here, the first at "
            f"{found.without_key_since}: their keys are not in keys.db, and no erasure is recorded"
        )
    if len(written_by := _stretches(found)) > 1:
        say(f"written by tasktrail {', '.join(written_by)}")
    if found.sealed is not None:
        say(f"as it was sealed up to {found.sealed}" if found.sealed else "no seal fits")
    if found.stamped is not None and found.stamped.position:
        say(f"stamped by a time authority up to {found.stamped.position}, at {found.stamped.at}")
    for one in found.witnessed:
        upto = f"has signed up to {one.position}, at {one.at}" if one.position else "has signed no seal that fits"
        say(f"the witness {plain(one.witness)} {upto}")
    say(f"head {found.position} {found.head}")


def _stretches(verification: "Verification") -> list[str]:
    """Return the versions that have written the log, one entry for each stretch of it."""
    each = groupby(verification.written_by, key=lambda writer: writer.version)
    return [f"{version} since {next(group).since}" for version, group in each]


@click.command(
    "rebuild",
    cls=CliCommand,
    examples=[
        ("tasktrail rebuild", "after `verify` found views that differ; the service may run, and goes on"),
        ("tasktrail rebuild --json", "with what differed, for a program"),
    ],
)
@pass_session
def rebuild_command(session: Session) -> None:
    """Build new views from the log, compare them with the present ones, and replace those.

    Nothing is lost: the log is the truth. A running service does it and goes on working; nothing is executed or sent
    again. Snapshots that differ from the fold of the log are deleted.
    """
    with counting("building") as progress:
        built = session.environment.rebuild(session, progress)
    if session.as_json:
        print_json(built)
        return
    for finding in built.differences:
        say(f"position {finding.position}: {finding.code}: {plain(finding.message)}")
    number = len(built.differences) + built.more
    if built.more:
        say(f"and {built.more} more")
    differences = f"; differences to those before: {number}" if number else ""
    say(f"views built from {counted(built.position, 'record')}{differences}")


_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command(
    "doctor",
    cls=CliCommand,
    examples=[
        ("tasktrail doctor", "this machine and ./tasktrail-data; exit code 1 when something must be put right"),
        ("tasktrail doctor --data /srv/tasks --json", "a line of JSON for each diagnosis"),
    ],
)
@pass_session
def doctor_command(session: Session) -> int:
    """Check the machine and the data folder, and report faults and weaknesses. Changes nothing."""
    session.files_only("doctor")
    from ..doctor.rules import examine, worst

    diagnoses = examine(session.data, file=session.config)
    width = session.layout().width
    for diagnosis in diagnoses:
        if session.as_json:
            print_json(diagnosis)
            continue
        mark, colour = _MARKS[diagnosis.level]
        text = f"{mark}  {diagnosis.name}: {plain(diagnosis.message)}"
        text += f"\n      {plain(diagnosis.remedy)}" if diagnosis.remedy else ""
        first, *more = text.split("\n")
        shown = "\n".join([fitted(first, width, "      "), *(fitted(line, width) for line in more)])
        click.echo(shown.replace(mark, click.style(mark, fg=colour), 1))
    return REFUSED if worst(diagnoses) == "fail" else DONE


@click.command(
    "backup",
    cls=CliCommand,
    examples=[
        ("tasktrail backup /mnt/backups/", "a new file in that folder, named by time and position"),
        ("tasktrail backup /mnt/backups/ --base /mnt/backups/", "from the newest one there, and only what is new"),
        ("tasktrail backup --data /srv/tasks tasks.db --json", "to a new file, with JSON for a program"),
    ],
)
@click.argument("dest", type=TargetParam())
@click.option(
    "--base",
    type=GivenPathParam(),
    metavar="EARLIER",
    help="Copy this earlier backup, and add what is new. From a folder, the newest backup that fits is taken.",
)
@click.option("--check", is_flag=True, help="Read back the whole new file, also what comes from --base.")
@pass_session
def backup_command(session: Session, dest: Path, base: Path | None, *, check: bool) -> None:
    """Copy the log to DEST, a new file or a folder, whether a service runs or not, and check the copy.

    The copy has everything that was acknowledged before the call, but not the configuration and the temp files of
    tasks. Nothing is ever overwritten.
    """
    session.files_only("backup")
    with counting("backing up") as progress:
        taken = session.environment.back_up(session, dest, progress, base=base, check=check)
    if session.as_json:
        print_json(taken)
        return
    partly = taken.checked_from > 1
    say(f"{plain(taken.path)}: {size(taken.size)}, {'what is new ' * partly}checked")
    if taken.base:
        more = f"{counted(taken.records_added, 'record')}, {size(taken.bytes_added)} more than {plain(taken.base)}"
        say(f"{more}{', which was not read again' * partly}")
    if taken.note:
        say(f"{'not from the newest backup' if taken.base else 'the whole log was copied'}: {plain(taken.note)}")
    if taken.archives:
        them = (
            f"{taken.archives_added} of them new: keep them"
            if taken.archives > 1
            else f"{taken.archives_added} new: keep it"
        )
        say(f"with {counted(taken.archives, 'archive')} beside it, {them} with it")
    say(f"head {taken.position} {taken.head}")


@click.command(
    "restore",
    cls=CliCommand,
    examples=[
        ("tasktrail restore --data /srv/tasks tasks.db", "into a data folder without a log; then start the service"),
        ("tasktrail restore tasks.db --dry-run", "check a backup, and change nothing"),
        ("tasktrail restore tasks.db --force", "first move an existing log aside"),
    ],
)
@click.argument("src", type=GivenPathParam())
@click.option("--force", is_flag=True, help="Replace an existing log, which is moved to DATA/replaced-….")
@click.option("--dry-run", is_flag=True, help="Check the backup only.")
@reason_and_actor
@pass_session
def restore_command(
    session: Session, src: Path, reason: str | None, actor: str | None, *, force: bool, dry_run: bool
) -> None:
    """Put a backup in place as the log of the data folder. No service may run on it.

    The backup is checked as `tasktrail verify` does before anything is changed. What was there is kept; if it had
    records that the backup lacks, the next start records that with actor and reason.
    """
    session.files_only("restore")
    with counting("checking" if dry_run else "restoring") as progress:
        restored = session.environment.restore(
            session, src, progress, force=force, only_check=dry_run, actor=actor or default_actor(), reason=reason or ""
        )
    if session.as_json:
        print_json(restored)
        return
    until = f", the last recorded at {moment(restored.recorded_at)}" if restored.recorded_at else ""
    outcome = "sound" if dry_run else "restored"
    of = counted(restored.tasks, "task")
    say(f"{outcome}: {counted(restored.position, 'record')} of {of}, {size(restored.size)}{until}")
    if restored.replaced_position:
        say(f"the log that was there ended at {restored.replaced_position}")
    if restored.kept:
        say(f"what was there is kept in {plain(restored.kept)}")
    if restored.tokens:
        say("valid tokens in it, also if they were revoked after the backup (`tasktrail token revoke NAME` ends one):")
    for token in restored.tokens:
        user = "all users" if token.user_id is None else f"user {token.user_id}"
        end = f", expires {moment(token.expires_at)}" if token.expires_at else ""
        say(f"  {token.token}: {token.role} of {user}, added {moment(token.added_at)}{end}", hang="  ")
    say(f"head {restored.position} {restored.head}")

"""`tasktrail seal`, `prove`: what shows others that the log is whole and as it was."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .command import CliCommand, pass_session
from .session import Session
from .terminal import plain, print_json, say

if TYPE_CHECKING:
    from ..projections.proof.notes import PublicKey

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
KEY_OPTION = click.option(
    "--key", metavar="KEY|FILE", help="The public key of the seals, kept elsewhere; else the one that lies with them."
)


def key_of(told: str | None) -> "PublicKey | None":
    """The key that was named, by itself or by its file. Raises `SealUnfit`."""
    if told is None:
        return None
    from ..projections.proof.notes import PublicKey
    from ..projections.proof.seals import read_key

    return PublicKey(told) if "+" in told and not Path(told).exists() else read_key(Path(told))


@click.command(
    "seal",
    cls=CliCommand,
    examples=[
        ("tasktrail seal", "seal the log of ./tasktrail-data as it is, into its folder seals"),
        ("tasktrail seal --json", "what was sealed, with the public key, for a program"),
    ],
)
@pass_session
def seal_command(session: Session) -> None:
    """Sign what the log holds now, so that no record of it can be changed, removed or added unseen later.

    The first time a key is made, in the file seal-key of the data folder; from then on a running service seals every
    hour and when it stops. Copy the seals and the public key to where nobody who can write to the log can reach them:
    `tasktrail verify --seals` holds the log against them, and `tasktrail prove` needs one.
    """
    session.files_only("seal")
    seal, key = session.environment.seal(session)
    said = seal.checkpoint
    if session.as_json:
        told = {"size": said.size, "root": said.root.hex(), "tasks": said.tasks, "tasks_root": said.tasks_root.hex()}
        print_json(told | {"sealed_at": said.sealed_at, "file": str(seal.path), "key": key.text})
        return
    say(f"sealed {said.size} records and {said.tasks} tasks at {said.sealed_at}: {plain(str(seal.path))}")
    say(f"public key {plain(key.text)}")


@click.command(
    "prove",
    cls=CliCommand,
    examples=[
        ("tasktrail prove 7 --out task-7.json", "the whole history of task 7, to be checked by anybody"),
        ("tasktrail prove 7 --seals /mnt/kept/seals", "by a seal that was kept elsewhere"),
    ],
)
@click.argument("task_id", metavar="ID", type=click.IntRange(min=1))
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write it there.")
@click.option("--seals", metavar="DIR", type=FOLDER, help="Take the newest seal of this folder.")
@KEY_OPTION
@pass_session
def prove_command(session: Session, task_id: int, out: Path | None, seals: Path | None, key: str | None) -> None:
    """Write a proof of a task's whole history: all its records up to the newest seal, none left out, none changed.

    To check it, with docs/examples/check_proof.py, nobody needs the log or tasktrail, only the public key. Records that
    came after the seal are not in it: seal again to have them.
    """
    import msgspec

    session.files_only("prove")
    proof = msgspec.json.encode(session.environment.prove(session, task_id, seals, key_of(key)))
    if out is None:
        click.echo(proof.decode())
        return
    out.write_bytes(proof)
    if session.as_json:
        print_json({"file": str(out), "size": len(proof)})
    else:
        say(f"{plain(str(out))}: {len(proof)} bytes")

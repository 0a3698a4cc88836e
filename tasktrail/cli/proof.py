"""`tasktrail seal`, `prove`, `provenance`: signed evidence that the log is complete and unchanged."""

import base64
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..events.counted import counted, plural
from ..events.existence import exists
from .command import CliCommand, pass_session
from .failing import CHECK_FAILED, DONE, complain, keeping
from .parameters import TASK_ID, GivenPathParam, GivenTextParam, TargetParam, TaskOrPathParam
from .session import Sealing, Session, require_stamps
from .terminal import for_stream, plain, print_json, say

if TYPE_CHECKING:
    from ..projections.proof.bundle import Proof
    from ..projections.proof.growth import Growth
    from ..projections.proof.notes import PublicKey, WitnessKey
    from ..projections.proof.stamps import Authorities

_STANDARD_OUTPUT = Path("-")
_SHOWN = 10
"""The most tasks that are listed on a line."""
KEY_OPTION = click.option(
    "--key",
    metavar="KEY|FILE",
    type=GivenTextParam(),
    help="The public key of the seals, best kept elsewhere. Default: the one beside them",
)


def public_key_of(key: str | None) -> "PublicKey | None":
    """Return the key that was given, as text or as a file. Raises `SealUnfit`."""
    if key is None:
        return None
    from ..projections.proof.notes import PublicKey
    from ..projections.proof.seals import read_key

    return PublicKey(key) if "+" in key and not exists(Path(key)) else read_key(Path(key))


def authorities_in(path: Path | None) -> "Authorities | None":
    """Return the time authorities whose certificates are in a file. Raises `SealUnfit`, and without the extra, too."""
    if path is None:
        return None
    require_stamps()
    from ..projections.proof.stamps import Authorities

    return Authorities(path)


def witness_keys(keys: Iterable[str]) -> "list[WitnessKey]":
    """Return the keys that were given, as texts or as files. Raises `SealUnfit`."""
    from ..projections.proof.notes import WITNESS_KEY, WitnessKey
    from ..projections.proof.seals import key_text

    return [
        WitnessKey(text if "+" in text and not exists(Path(text)) else key_text(Path(text), WITNESS_KEY))
        for text in keys
    ]


def refuse_no_address(address: str, remedy: str) -> None:
    """Raise `InvalidValue` for what cannot be the address of a witness or a time authority."""
    from ..config.settings import check_address
    from ..events.errors import InvalidValue

    try:
        check_address(address)
    except ValueError as error:
        raise InvalidValue(f"This is {error}", field="url", remedy=remedy) from error


def _write(path: Path, content: bytes) -> None:
    from ..exports.file import whole_file

    with whole_file(path) as part:
        part.write_bytes(content)


@click.command(
    "seal",
    cls=CliCommand,
    examples=[
        ("tasktrail seal", "seal the log of ./tasktrail-data as it is, into its folder seals"),
        ("tasktrail seal --json", "what was sealed, with the public key, for a program"),
    ],
)
@pass_session
def seal_command(session: Session) -> int:
    """Sign what the log holds now, so that no record of it can be changed, removed or added unnoticed later.

    The first seal makes a key, in the file seal-key of the data folder; from then on a running service seals every hour
    and when it stops. Copy the seals and the public key out of reach of everyone who can write to the log: `tasktrail
    verify --seals DIR` compares the log with them, and `tasktrail prove` needs one. The witnesses of `tasktrail witness
    list` are asked to sign it, too. Exit code 4: one of them has signed another log.
    """
    session.files_only("seal")
    return print_seal(session, session.environment.seal(session))


def print_seal(session: Session, made: Sealing, **more: str) -> int:
    """Print what was sealed and who has signed it. Returns the exit code: 4 if a witness has signed another log."""
    found = CHECK_FAILED if any(one.outcome == "contradicted" for one in made.asked) else DONE
    with keeping(found, as_json=session.as_json):
        _print_made(session, made, more)
    code = complain(made.unasked, as_json=session.as_json) if made.unasked else DONE
    return found or code


def _print_made(session: Session, made: Sealing, more: dict[str, str]) -> None:
    checkpoint = made.seal.checkpoint
    if session.as_json:
        summary = {
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
            "tasks": checkpoint.tasks,
            "tasks_root": checkpoint.tasks_root.hex(),
        }
        summary |= {"sealed_at": checkpoint.sealed_at, "file": str(made.seal.path), "key": made.key.text}
        print_json(summary | {"witnesses": made.asked} | more)
    else:
        many = f"{counted(checkpoint.size, 'record')} and {counted(checkpoint.tasks, 'task')}"
        say(f"sealed {many} at {checkpoint.sealed_at}: {plain(str(made.seal.path))}")
        say(f"public key {plain(made.key.text)}")
        for one in made.asked:
            if one.outcome == "signed":
                say(f"signed by the witness {plain(one.witness)} at {one.at}")
            else:
                say(f"not signed by the witness {plain(one.witness)}: {plain(one.message)}", err=True, hang="  ")
                say(f"  {plain(one.remedy)}", err=True)


@click.command(
    "prove",
    cls=CliCommand,
    examples=[
        ("tasktrail prove 7 --out task-7.json", "the whole history of task 7, which anyone can check"),
        ("tasktrail prove 7 --seals /mnt/kept/seals", "by a seal that was kept elsewhere"),
        ("tasktrail prove --from kept.note --out growth.json", "that the log has only grown since that seal"),
    ],
)
@click.argument("task_id", metavar="[ID]", required=False, type=TASK_ID)
@click.option(
    "--from",
    "begin",
    metavar="SEAL",
    type=GivenTextParam(),
    help="Prove growth since this seal: its number of records, or its file.",
)
@click.option(
    "--to", "end", metavar="SEAL", type=GivenTextParam(), help="Prove growth up to this seal. Default: the newest"
)
@click.option(
    "--out",
    metavar="FILE",
    type=TargetParam(dir_okay=False),
    help="Write to FILE. Default, or -: standard output",
)
@click.option("--seals", metavar="DIR", type=GivenPathParam(), help="Take the seals of this folder.")
@KEY_OPTION
@pass_session
def prove_command(
    session: Session,
    task_id: int | None,
    begin: str | None,
    end: str | None,
    out: Path | None,
    seals: Path | None,
    key: str | None,
) -> None:
    """Write a proof of a task's whole history, or of the growth of the log from one seal to another.

    With ID it proves that these are all records of the task up to the newest seal, unchanged. With --from it proves
    growth: the records of the earlier seal are the first ones of the later one. Checking it takes neither the log nor
    tasktrail, only the public key and check_proof.py or check_growth.py from its documentation. Later records than the
    seal are not in it: seal again to include them.
    """
    import msgspec

    if (task_id is None) == (begin is None):
        raise click.UsageError("name either a task or, with --from, an earlier seal")
    if end is not None and begin is None:
        raise click.UsageError("--to is for --from")
    session.files_only("prove")
    made: Proof | Growth
    if begin is not None:
        made = session.environment.prove_growth(session, begin, end, seals, public_key_of(key))
    else:
        made = session.environment.prove(session, task_id or 0, seals, public_key_of(key))
    proof = msgspec.json.encode(made)
    if out is None or out == _STANDARD_OUTPUT:
        click.echo(for_stream(proof, sys.stdout))
        return
    _write(out, proof)
    if session.as_json:
        print_json({"file": str(out), "size": len(proof)})
    else:
        say(f"{plain(str(out))}: {len(proof)} bytes")


@click.command(
    "provenance",
    cls=CliCommand,
    examples=[
        ("tasktrail provenance small.jpg", "which task made this file, and from what"),
        ("tasktrail provenance 7 --out task-7.intoto.json", "the statement of task 7, signed, for others"),
    ],
)
@click.argument("made", type=TaskOrPathParam(), metavar="ID|FILE")
@click.option(
    "--out",
    metavar="FILE",
    type=TargetParam(dir_okay=False),
    help="Write the statement to FILE; -: to standard output, as --json does",
)
@pass_session
def provenance_command(session: Session, made: int | Path, out: Path | None) -> None:
    """Show how and from what an output was made: an in-toto statement with SLSA provenance, signed (DSSE).

    A file, or a folder of files, is found by its SHA-256, wherever it is now. The statement names the task, and the
    position of the record that says so. It is signed with the key of `tasktrail seal`. If several tasks made the same
    bytes, it names the task whose output is at this path, else the newest, and lists the others.
    """
    import msgspec

    envelope = session.environment.provenance(session, made)
    written = msgspec.json.encode(envelope)
    if out is not None and out != _STANDARD_OUTPUT:
        _write(out, written)
    if session.as_json or out == _STANDARD_OUTPUT:
        click.echo(for_stream(written, sys.stdout))
        return
    statement = msgspec.json.decode(base64.b64decode(envelope["payload"]))
    (subject,), predicate = statement["subject"], statement["predicate"]
    definition, run = predicate["buildDefinition"], predicate["runDetails"]
    say(f"{plain(subject['name'])}, sha256 {subject['digest']['sha256']}")
    say(f"made by {plain(run['metadata']['invocationId'])} ({plain(definition['externalParameters']['type'])})")
    say(f"from {run['metadata']['startedOn']} to {run['metadata']['finishedOn']}")
    for source in definition["resolvedDependencies"]:
        digest = source.get("digest", {}).get("sha256", "not recorded")
        say(f"from {plain(source['uri'])}, sha256 {digest}")
    beside = {one["name"]: one["annotations"] for one in run["byproducts"]}
    say(f"recorded at position {beside['log']['position']}")
    if seal := beside.get("seal"):
        say(f"sealed with {counted(seal['size'], 'record')} at {seal['sealed_at']}")
    else:
        say("not sealed yet: `tasktrail seal` does it")
    if others := subject.get("annotations", {}).get("also_made_by"):
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        word = plural(len(others), "task")
        say(f"the same bytes were made by {word} {', '.join(map(str, others[:_SHOWN]))}{more}, too")
    if manifest := beside.get("c2pa"):
        kept = ", with that of the input" if manifest["input_manifest"] else ""
        say(f"carries the C2PA manifest {plain(manifest['manifest'])}{kept}")
    if out is not None:
        say(f"{plain(str(out))}: {len(written)} bytes")

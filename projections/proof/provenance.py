"""Provenance: from what an output was made, as an in-toto statement with a SLSA predicate, signed in DSSE."""

import base64
import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...events import Completed, Created, Recorded, Started
from ...events.errors import Erased, InvalidPath, UnknownTask
from ...events.existence import exists, is_dir, is_file
from ...events.log.files import plain_file
from ...events.log.key_check import unreadable_records
from ...events.log.keys import Keys
from ...events.log.log_reader import LogReader
from ...events.log.stubs import forgotten
from ...events.recorded import EVENT_TAGS, Stub, timestamp
from ...events.system_events import ServiceStarted, UserErased
from ...events.task_events import is_erased
from ...events.values import is_sha256
from ..errors import NothingMade, SealUnfit
from .notes import PrivateKey
from .seals import Seal, name_of, newest_seal, seal_files
from .unchanged import refuse_changed

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Makers(NamedTuple):
    """The tasks that have made a file with exactly these bytes."""

    task_id: int
    """The task whose output is at the file's path; else the newest task."""
    others: tuple[int, ...]
    """All other tasks, in order."""


def makers_of(log: LogReader, file: Path, keys: Keys | None = None) -> Makers:
    """The tasks that have made a file, or a folder of files, with exactly these bytes.

    `keys`: the keys of users; if no task is found, the error says whether some are missing. Raises `UnknownTask` and
    `InvalidPath`.
    """
    try:
        digest = _sha256_of_folder(file) if is_dir(file) else _sha256_of(file)
    except OSError as error:
        remedy = "Name a file that you may read, or the number of a task."
        raise InvalidPath(f"{str(file)!r} cannot be read: {error.strerror}", field="file", remedy=remedy) from error
    if found := [one for one in log.with_result(digest) if _output_of(log, one)]:
        place = os.path.realpath(file)
        task_id = next((one for one in found if os.path.realpath(_output_of(log, one)) == place), found[0])
        return Makers(task_id, tuple(sorted(set(found) - {task_id})))
    alone = " If each of its files was made by a task of its own, name one of them." if is_dir(file) else ""
    raise UnknownTask(
        f"As far as this log shows, no task has made {str(file)!r}, whose SHA-256 is {digest}",
        field="file",
        remedy=_why_unknown(log, keys) + alone,
    )


def _sha256_of(file: Path) -> str:
    with open(file, "rb", opener=plain_file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sha256_of_folder(folder: Path) -> str:
    """SHA-256 of the output of `sha256sum *` in the folder, which is how tasks record it. Raises `OSError`."""
    files = sorted(folder.iterdir())
    for file in files:
        if not is_file(file):
            raise OSError(errno.EINVAL, f"{file.name!r} in it is no plain file")
        if "\n" in file.name:  # such a name could read as several files
            raise OSError(errno.EINVAL, f"{file.name!r} in it holds a line end")
    lines = "".join(f"{_sha256_of(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(os.fsencode(lines)).hexdigest()


def _output_of(log: LogReader, task_id: int) -> str:
    """The output path of a task. Empty if it makes no file: then `sha256` in its result may mean anything.

    Raises `LogCorrupt` if the record was changed.
    """
    (created,) = log.read_task_after(task_id, 0, 1)
    refuse_changed(log, created)
    return created.event.output_file if isinstance(created.event, Created) else ""


def _as_uri(path: str) -> str:
    """The path as a URI; an address is one already."""
    return Path(path).as_uri() if path.startswith("/") else path


def _why_unknown(log: LogReader, keys: Keys | None) -> str:
    gone = {
        "erased": log.newest_of(EVENT_TAGS[UserErased], 0, log.head().position, 1),
        "forgotten": log.drops(),
    }
    maybe = "It was changed since, or made elsewhere"
    if lost := " or ".join(word for word, found in gone.items() if found):
        maybe += f", or by a task that was {lost}: what is known of their files is gone"
    if keys is not None and unreadable_records(log, keys).number:
        maybe += ", or by a task whose key is missing here: `tasktrail verify` counts the records that cannot be read"
    return f"{maybe}."


def provenance(
    log: LogReader, task_id: int, seals: Path, key_of: Callable[[str], PrivateKey], others: Sequence[int] = ()
) -> dict[str, Any]:
    """The signed statement of how a task's output was made, in a DSSE envelope: the same while the newest seal is.

    Args:
        log: the log.
        task_id: the task.
        seals: the folder of the seals.
        key_of: returns the key for a log of that name. It is called once there is something to sign.
        others: as for `statement`.

    Raises:
        UnknownTask, NothingMade, Erased, LogCorrupt: as `made_by` does.
        SealUnfit: as `key_of` does, or the newest seal cannot be read or has the name of another.
    """
    made, name = made_by(log, task_id), name_of(next(log.read(limit=1)))
    refuse_changed(log, *(done for other in others if (done := log.last_of(other)) is not None))
    key = key_of(name)
    return signed(statement(log, made, name, others, _newest(seals, key)), key)


def _newest(seals: Path, key: PrivateKey) -> Seal | None:
    files = seal_files(seals) if exists(seals) else []
    if not files:
        return None
    try:
        return newest_seal(seals, key.public)
    except SealUnfit as error:  # the answer may go to somebody elsewhere, whom the folder's path does not concern
        raise SealUnfit(
            f"The newest seal, {files[-1].name}, cannot be read, or is not what its name says",
            remedy="`tasktrail verify --seals FOLDER` says on the service's machine what is wrong.",
        ) from error


class Made(NamedTuple):
    """The records of the log about an output."""

    created: Created
    started: Recorded
    done: Recorded
    completed: Completed
    """The event of `done`."""
    digest: str
    """SHA-256, in hex."""
    completions: tuple[Recorded, ...]
    """The last record of each dependency that had completed before: the attempt was given their results."""


def made_by(log: LogReader, task_id: int) -> Made:
    """The records of the log about a task's output.

    Raises:
        UnknownTask: there is no such task.
        NothingMade: it has made no file, or not yet.
        Erased: its user was erased.
        LogCorrupt: one of these records was changed.
    """
    records = log.read_task(task_id)
    if not records:
        raise UnknownTask(f"Task {task_id} does not exist", field="task_id")
    if isinstance(records[0].event, Stub):
        raise forgotten(log, task_id) or UnknownTask(f"Task {task_id} does not exist", field="task_id")
    created, done, started = records[0].event, records[-1], _last_start(records)
    if not isinstance(created, Created) or not isinstance(done.event, Completed) or started is None:
        raise NothingMade(
            f"Task {task_id} has not completed, so it has made no file",
            field="task_id",
            remedy=f"`tasktrail show {task_id}` says how far it is.",
        )
    if is_erased(created):
        raise Erased(
            f"What task {task_id} worked on has been erased",
            field="task_id",
            remedy=f"`tasktrail history {task_id}` shows when and by whom. If it does not, the key is missing: see "
            "`tasktrail verify`.",
        )
    refuse_changed(log, records[0], started, done)
    if done.event.kept_original:
        raise NothingMade(
            f"Task {task_id} has made no file, the original stays: {done.event.kept_original}",
            field="task_id",
            remedy=f"`tasktrail show {task_id}` says what it has found.",
        )
    digest = done.event.made_sha256
    if not (created.output_file and is_sha256(digest)):
        raise NothingMade(
            f"Task {task_id} has made no file, or none whose SHA-256 was recorded",
            field="task_id",
            remedy="It is recorded up to the size in `hash_inputs_up_to`, and where the type gives it itself.",
        )
    ends = (log.last_of(other) for other in created.depends_on)
    completions = tuple(end for end in ends if end is not None and _was_available(end, started))
    refuse_changed(log, *completions)
    return Made(created, started, done, done.event, digest, completions)


def _was_available(end: Recorded, started: Recorded) -> bool:
    """Whether an attempt that began at `started` could be given the result."""
    return isinstance(end.event, Completed) and end.position < started.position


def statement(
    log: LogReader, made: Made, builder: str, others: Sequence[int] = (), seal: Seal | None = None
) -> dict[str, Any]:
    """The statement of how an output was made, by the log.

    Args:
        log: the log.
        made: its records about the output.
        builder: the name of the log, which stands for its operator.
        others: the other tasks that have made the same bytes, if they were looked up.
        seal: the newest seal, if there is one. It is named if it covers the record.
    """
    created, started, done, completed, digest, completions = made
    log_id = f"urn:{builder.replace('/', ':')}"
    read = completed.input_read
    source: dict[str, Any] = {"uri": _as_uri(created.input_file)} if created.input_file else {}
    if source and read is not None:
        source |= {"digest": {"sha256": read.sha256}} if read.sha256 else {}
        # As text: a reader of JSON whose numbers are doubles, such as JavaScript, would round it.
        source["annotations"] = {"size": read.size, "modified_ns": str(read.modified)}
    subject: dict[str, Any] = {"name": Path(created.output_file).name, "digest": {"sha256": digest}}
    if others:
        subject["annotations"] = {"also_made_by": list(others)}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [subject],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:tasktrail:task:1",
                "externalParameters": {
                    "type": created.type,
                    "options": created.options,
                    "input_file": created.input_file,
                    "output_file": created.output_file,
                },
                "resolvedDependencies": [
                    *filter(None, [source]),
                    *(_as_source(log, log_id, end) for end in completions),
                ],
            },
            "runDetails": {
                "builder": {
                    "id": log_id,
                    "version": {"tasktrail": _version(log, started)} | completed.tools,
                },
                "metadata": {
                    "invocationId": f"{builder}/tasks/{done.task_id}/attempts/{done.attempt}",
                    "startedOn": timestamp(started.recorded_at),
                    "finishedOn": timestamp(done.recorded_at),
                },
                "byproducts": [
                    {"name": "log", "annotations": {"position": done.position, "hash": done.hash.hex()}},
                    *_manifest_of(completed.result),
                    *_seal_over(done.position, seal),
                ],
            },
        },
    }


def _as_source(log: LogReader, log_id: str, end: Recorded) -> dict[str, Any]:
    """The output of a dependency as a source, without its path: the task may be another user's."""
    source: dict[str, Any] = {"uri": f"{log_id}:tasks:{end.task_id}:attempts:{end.attempt}"}
    if isinstance(end.event, Completed) and is_sha256(end.event.made_sha256) and _output_of(log, end.task_id):
        source["digest"] = {"sha256": end.event.made_sha256}
    return source | {"annotations": {"position": end.position, "hash": end.hash.hex()}}


def _manifest_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The C2PA manifest in the output, if there is one."""
    manifest = result.get("c2pa")
    return [{"name": "c2pa", "annotations": manifest}] if isinstance(manifest, dict) else []


def _seal_over(position: int, seal: Seal | None) -> list[dict[str, Any]]:
    """The seal, if it covers the record at a position."""
    if seal is None or position > seal.checkpoint.size:
        return []
    return [{"name": "seal", "annotations": seal.description()}]


def signed(statement: dict[str, Any], key: PrivateKey) -> dict[str, Any]:
    """The statement in a DSSE envelope."""
    payload = msgspec.json.encode(statement)
    signature = key.sign(b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload))
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key.public.name, "sig": base64.b64encode(signature).decode()}],
    }


def _last_start(records: list[Recorded]) -> Recorded | None:
    return next((record for record in reversed(records) if isinstance(record.event, Started)), None)


def _version(log: LogReader, started: Recorded) -> str:
    """The version of the service that started the attempt."""
    found = log.newest_of("service_started", 0, started.position, 1)
    if not found:
        return ""
    record = next(log.read(found[0] - 1, 1))
    refuse_changed(log, record)
    return record.event.version if isinstance(record.event, ServiceStarted) else ""

"""Every error tasktrail raises on purpose. Each says what happened, where, and what to do about it.

`code` is stable and machine-readable; `status` is the HTTP status that the API answers with; `field` names the
argument at fault, when there is one.

400 means that a request does not match the description at /openapi.json. A request that does, and is refused all the
same, has a status that says why: 404, 409, 413 or 422.
"""

from typing import ClassVar, Self

NOT_THERE = 404
"""The thing that the request is about does not exist."""
CONFLICT = 409
"""The present situation forbids it: a state, a file, a moment that is over. Later it may be possible."""
TOO_MUCH = 413
"""It is larger than allowed."""
CONTRADICTION = 422
"""It contradicts itself, or its task type, in a way that no schema can express."""

_LONGEST_MESSAGE = 1000
_LONGEST_FIELD = 200
"""Characters. Messages repeat what was given, and that may be very long."""


class TasktrailError(Exception):
    """The base of all errors. Catch it to catch everything that tasktrail refuses."""

    code: ClassVar[str] = "error"
    status: int = 500
    title: ClassVar[str] = "Something went wrong"
    remedy: ClassVar[str] = "Look at the service's log for the cause."
    retry_after: int | None = None
    """Seconds after which to send the request again, if that is known. Nothing was done."""

    def __init__(self, message: str, *, field: str = "", remedy: str = "", status: int = 0) -> None:
        """`status` replaces the status of the class."""
        message = _shortened(message, _LONGEST_MESSAGE)
        super().__init__(message)
        self.message = message
        self.field = _shortened(field, _LONGEST_FIELD)
        self.advice = remedy or self.remedy
        if status:
            self.status = status

    def __str__(self) -> str:
        text = f"{self.message} (field: {self.field})" if self.field else self.message
        return f"{text} {self.advice}" if text.endswith((".", "?", "!")) else f"{text}. {self.advice}"

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling and copying although the arguments are keyword-only."""
        return (_rebuild, (type(self), self.message, self.field, self.advice, self.status))


def _shortened(text: str, longest: int) -> str:
    """The text in UTF-8; if too long, its beginning and end, with the number of characters left out between them."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair could be neither printed nor sent
    if len(text) <= longest:
        return text
    half = longest // 2 - 20
    return f"{text[:half]}… ({len(text) - 2 * half:,} more) …{text[-half:]}"


def _rebuild(cls: type[TasktrailError], message: str, field: str, advice: str, status: int) -> TasktrailError:
    error = cls.__new__(cls)
    TasktrailError.__init__(error, message, field=field, remedy=advice, status=status)
    return error


# Reasons to refuse a command. Nothing is recorded.


class Malformed(TasktrailError):
    """The bytes are not a command: bad JSON, wrong shape, unknown field."""

    code = "malformed"
    status = 400
    title = "The request cannot be read"
    remedy = "GET /openapi.json describes every command; `tasktrail submit --help` has an example."


class InvalidValue(TasktrailError):
    """A field has a value outside of what is allowed."""

    code = "invalid_value"
    status = 400
    title = "A value is not allowed"
    remedy = "Correct the value and try again."


class UnknownType(TasktrailError):
    """No handler is registered for the task type."""

    code = "unknown_type"
    status = 400
    title = "There is no such task type"
    remedy = (
        "List the types with `tasktrail types`; for a type of your own, give the service its file (`tasktrail serve "
        "FILE`), an entry point, or the key `handlers` (Python: `TaskService.open(..., "
        "config=Config(handlers=[...]))`)."
    )


class InvalidOptions(TasktrailError):
    """The options do not fit the task type."""

    code = "invalid_options"
    status = 400
    title = "The options do not fit the task type"
    remedy = "See `tasktrail types` for the options of each type."


class InvalidPath(TasktrailError):
    """A path cannot be used: relative, missing, not a regular file, or outside the allowed roots."""

    code = "invalid_path"
    status = 400
    title = "A path cannot be used"
    remedy = "Give an absolute path that the service can reach."


class OutputsCollide(TasktrailError):
    """Files of one batch would get the same output, or one would replace the input of another."""

    code = "outputs_collide"
    status = 422
    title = "Outputs of the batch collide"
    remedy = "Tell them apart in `to`, with {folder}, {suffix} or {number}."


class UnknownBatch(TasktrailError):
    """No task belongs to a batch of this name."""

    code = "unknown_batch"
    status = 404
    title = "There is no such batch"
    remedy = "List them with `tasktrail batches`."


class SourceExists(TasktrailError):
    """The name belongs to another source."""

    code = "source_exists"
    status = 409
    title = "There is already such a source"
    remedy = "Take another name, or set `replace` (CLI: --replace) to change that one."


class UnknownNode(TasktrailError):
    """No node has this name. The message lists the nodes that exist."""

    code = "unknown_node"
    status = 404
    title = "There is no such node"
    remedy = "List them with `tasktrail nodes`."


class UnknownSource(TasktrailError):
    """No source has this name."""

    code = "unknown_source"
    status = 404
    title = "There is no such source"
    remedy = "List them with `tasktrail source list`."


class TokenExists(TasktrailError):
    """The name, or the secret, belongs to another token."""

    code = "token_exists"
    status = 409
    title = "There is already such a token"
    remedy = "Take another name, or revoke the old one first: `tasktrail token revoke NAME`."


class UnknownToken(TasktrailError):
    """No token has this name."""

    code = "unknown_token"
    status = 404
    title = "There is no such token"
    remedy = "List them with `tasktrail token list`; a revoked token is not listed."


class OutputExists(TasktrailError):
    """The output is already there and the task may not overwrite it."""

    code = "output_exists"
    status = 409
    title = "The output already exists"
    remedy = "Choose another output, remove the file, or set `overwrite` (CLI: --overwrite)."


class OutputTaken(TasktrailError):
    """Another task that has not ended yet will write the same output."""

    code = "output_taken"
    status = 409
    title = "Another task will write this output"
    remedy = (
        "Wait for that task or cancel it (`tasktrail serve` runs it if no service does), choose another output, or set "
        "`overwrite` (CLI: --overwrite)."
    )
    holder: int = 0
    """The other task; 0 if it does not exist yet."""

    @classmethod
    def by(cls, holder: int, wanted: str, *, field: str = "", remedy: str = "") -> Self:
        """The error that names the task which will write it. `wanted`: the output, in words."""
        error = cls(f"Task {holder} is not finished and will write {wanted}", field=field, remedy=remedy)
        error.holder = holder
        return error


class KeyTaken(TasktrailError):
    """Another task with the same `unique` key has not ended yet."""

    code = "key_taken"
    status = 409
    title = "Another open task has this key"
    remedy = "Wait for that task or cancel it, then retry this one."


class NeverFits(TasktrailError):
    """The task needs more than this machine, or its limits, could give it with nothing else running."""

    code = "never_fits"
    status = 413
    title = "The task needs more than it could ever get"
    remedy = (
        "Raise the limit (`tasktrail limits`), or take a larger machine, and send or retry it; or look at the input."
    )


class UnknownTask(TasktrailError):
    """No task has this id."""

    code = "unknown_task"
    status = 404
    title = "There is no such task"
    remedy = "List the tasks with `tasktrail list`."


class TaskForgotten(UnknownTask):
    """The task is over, and its records were dropped: by a rule of retention, or on request."""

    code = "task_forgotten"
    title = "The task was forgotten"
    remedy = (
        "Its history is gone for good; an earlier backup may have it. `tasktrail log --event tasks_forgotten` shows "
        "who forgot it."
    )


class UnknownAttempt(TasktrailError):
    """The task has had no attempt of that number."""

    code = "unknown_attempt"
    status = 404
    title = "There is no such attempt"
    remedy = "See `tasktrail history ID` for the attempts there were."


class UnknownDependency(TasktrailError):
    """A task can only depend on tasks that exist, and only such a task can be its parent."""

    code = "unknown_dependency"
    status = 409
    title = "A task that it refers to does not exist"
    remedy = "Create that task first, and use the number in the answer."


class GraphCycle(TasktrailError):
    """Tasks of a graph wait for each other in a circle."""

    code = "graph_cycle"
    status = 422
    title = "The graph has a cycle"
    remedy = "Take one of the named `depends_on` or `parent` out of the circle."


class IllegalTransition(TasktrailError):
    """The task's state does not allow the command."""

    code = "illegal_transition"
    status = 409
    title = "The task's state does not allow this"
    remedy = "`tasktrail history ID` shows how the task came to this state."


class StaleAttempt(TasktrailError):
    """A report of an attempt that is no longer the current one. Refused: this is the fence."""

    code = "stale_attempt"
    status = 409
    title = "The attempt is no longer the current one"
    remedy = "Nothing to do: a newer attempt has taken over or the task has ended."


class RetriesExhausted(TasktrailError):
    """`retry_count` has reached `max_retries`."""

    code = "retries_exhausted"
    status = 409
    title = "The task has no retries left"
    remedy = "Force the retry (CLI: --force); who forced it is recorded."


class CannotStartNow(TasktrailError):
    """`StartTask` on a waiting task that cannot start at once."""

    code = "cannot_start_now"
    status = 409
    title = "The task cannot start now"
    remedy = "`tasktrail why ID` shows what lifts the reasons; once they are gone, it starts by itself."


class CommandIdReused(TasktrailError):
    """The command id was used before for another command."""

    code = "command_id_reused"
    status = 409
    title = "The command id belongs to another command"
    remedy = "Use a new id for a new command; repeat an id only with the very same command."


# Faults of the log, the service and the machine.


class OutcomeUnknown(TasktrailError):
    """The commit failed in a way that leaves open whether the command is in the log."""

    code = "outcome_unknown"
    status = 503
    title = "It is unknown whether the command was recorded"
    remedy = "Send the same command with the same command id again: it has one effect however often it is sent."


class LogFull(OutcomeUnknown):
    """The disk has no room for the log. Nothing was acknowledged."""

    code = "log_full"
    title = "The disk is full"
    remedy = (
        "Free disk space: a running service then goes on by itself. If you sent a command, repeat it with the same "
        "command id."
    )


class DiskFailed(OutcomeUnknown):
    """Reading or writing the log failed: disk, file system or quota. This does not mean that the log is damaged."""

    code = "disk_failed"
    title = "The disk reports an error"
    remedy = (
        "Look at the kernel's messages (`dmesg`), the file system and its limits: once the disk works, a running "
        "service goes on by itself, and `tasktrail verify` shows whether anything is damaged. If you sent a command, "
        "repeat it with the same command id."
    )


class LogLocked(OutcomeUnknown):
    """Another program has locked the log, and did not let go of it in time."""

    code = "log_locked"
    title = "Another program has locked the log"
    remedy = (
        "End the program that has log.db open for writing (`fuser -v DATA/log.db` names it): a running service then "
        "goes on by itself. If you sent a command, repeat it with the same command id."
    )


class LogUnreachable(OutcomeUnknown):
    """The database that holds the log does not answer, or the connection was lost."""

    code = "log_unreachable"
    title = "The database of the log does not answer"
    remedy = (
        "See that PostgreSQL runs, that the address in DATA/log.postgresql leads to it, and that its password is in "
        "~/.pgpass or PGPASSWORD: a running service then goes on by itself. If you sent a command, repeat it with the "
        "same command id."
    )


class OnlyInFiles(TasktrailError):
    """Only a log in files can do what was requested; this one is on PostgreSQL."""

    code = "only_in_files"
    status = 409
    title = "Only a log in a file can do this"
    remedy = "Use PostgreSQL's own means for this, or move the log into a file with `tasktrail migrate`."


class LogNotWritable(OutcomeUnknown):
    """The log may not be opened or written: permissions, owner, or a file system that is mounted read-only."""

    code = "log_not_writable"
    title = "The log may not be written"
    remedy = (
        "See that DATA and the files in it belong to the user of the service, are writable, and are not on a read-only "
        "file system. If you sent a command, repeat it with the same command id."
    )


class LogGone(TasktrailError):
    """The log's file was deleted or replaced, or was never there. Anything written to it would be lost."""

    code = "log_gone"
    status = 503
    title = "The log's file is not there"
    remedy = (
        "The message says what could be saved, and where. Look at it with `tasktrail verify`, put the right log in its "
        "place, and start the service again."
    )


class ConcurrencyError(TasktrailError):
    """Another writer has appended to the log in between. This one must start again from the log."""

    code = "concurrency"
    status = 503
    title = "Another writer has appended to the log"
    remedy = "Repeat the command with the same command id."

    def __init__(self, message: str, *, current: int = 0, expected: int = 0) -> None:
        super().__init__(message)
        self.current = current
        self.expected = expected


class Fenced(TasktrailError):
    """A newer service has taken over the log; this one may not write any more."""

    code = "fenced"
    status = 503
    title = "Another service has taken over"
    remedy = "Stop this service; the newer one continues the work."


class DataInUse(TasktrailError):
    """Another service holds the data folder."""

    code = "data_in_use"
    status = 409
    title = "Another service works on this data folder"
    remedy = "Talk to the running service, or stop it and wait until its process has ended."


class LogCorrupt(TasktrailError):
    """The log does not read as it was written."""

    code = "log_corrupt"
    status = 500
    title = "The log is damaged"
    remedy = "Run `tasktrail verify` for the first bad position, and restore the folder or the database from a backup."


class UnusableOrder(TasktrailError):
    """A recorded schedule or rate cannot be followed by this version, or with the time zones of this machine."""

    code = "unusable_order"
    status = 500
    title = "A recorded schedule or rate cannot be followed here"
    remedy = (
        "Install the newest tasktrail and `tzdata`: a newer version may have recorded it. If that does not help, the "
        "record was altered: restore the newest backup from before that."
    )

    def __init__(self, position: int, why: str) -> None:
        """`position` is that of the record."""
        super().__init__(f"Position {position}: {why}")
        self.position = position


class BackupFailed(TasktrailError):
    """A backup could not be written, or not be put in place. What was there before is unchanged."""

    code = "backup_failed"
    status = 503
    title = "The backup could not be made or restored"
    remedy = "See that the folder can be written to and has room, and try again."


class BaseUnfit(TasktrailError):
    """A backup cannot build on the earlier one that was named: the log does not go on from where that one ends."""

    code = "base_unfit"
    status = 409
    title = "The earlier backup is not one of this log, or is damaged"
    remedy = "Name another backup of this log, or take a full one, without --base."


class DataNotEmpty(TasktrailError):
    """A backup is to be restored into a data folder that has a log."""

    code = "data_not_empty"
    status = 409
    title = "The data folder holds a log already"
    remedy = "Restore into an empty folder (--data), or put this log aside with --force; it is kept."


ACCEPT_LOSS = (
    "If the records are gone for good, accept that: `tasktrail serve --accept-loss --reason TEXT`. It is recorded."
)
"""What is left to do when no log and no backup has the missing records."""
PUT_LOG_BACK = (
    "Put the right log back: the file with its -wal file, or the server of PostgreSQL that has these records. Or "
    "restore a later backup: `tasktrail restore`, or that of the database."
)
"""What to do about a log that lacks its end."""


class HistoryMissing(TasktrailError):
    """Views or snapshots have seen records that the log lacks: it is older, is another one, or has lost its end."""

    code = "history_missing"
    status = 503
    title = "The log lacks records that it once had"
    remedy = f"{PUT_LOG_BACK} {ACCEPT_LOSS}"


class KeysUnreadable(TasktrailError):
    """The keys of users, or their master key, cannot be used. Nothing was changed."""

    code = "keys_unreadable"
    status = 503
    title = "The keys of personal data cannot be used"
    remedy = "Put `keys.db` and the master key back together, from a backup of their own."


MOUNT_FOR_WRITING = "Mount it for writing, once `dmesg` has shown that no fault of the disk made it read-only."
"""The remedy for a file system that is mounted read-only."""
LOST_KEYS = (
    f"{KeysUnreadable.remedy} If they are gone for good, for example because this log is older than an erasure, give "
    "up what cannot be read: `tasktrail serve --accept-lost-keys --reason TEXT`. It is recorded."
)
"""The remedy if keys are missing that were there once."""


class UserHasWork(TasktrailError):
    """The user has unfinished tasks, or schedules or sources that make new ones: the personal data is still needed."""

    code = "user_has_work"
    status = CONFLICT
    title = "The user still has work here"
    remedy = "Wait for the tasks or cancel them, remove the schedules and sources, then erase."


class KeptInPlain(TasktrailError):
    """Tasks of the user were recorded before personal data was encrypted."""

    code = "kept_in_plain"
    status = CONFLICT
    title = "Some of the data cannot be erased by key"
    remedy = "`partly` (CLI: --partly) erases the rest, and says in the log how many tasks stay readable."


class Erased(TasktrailError):
    """The personal data that the task needs has been erased."""

    code = "erased"
    status = CONFLICT
    title = "The task has been erased"
    remedy = "Create a new task."


class LogTooNew(TasktrailError):
    """The log holds, or may hold, something that this version does not know."""

    code = "log_too_new"
    status = 500
    title = "The log was written by a newer version"
    remedy = (
        "Install that version or a later one. To go back to this one, restore a backup from before the upgrade: "
        "`tasktrail restore`, or a backup of the database if the log is on PostgreSQL."
    )


class ServiceUnreachable(TasktrailError):
    """No service answers."""

    code = "service_unreachable"
    status = 503
    title = "No service answers"
    remedy = "Start one with `tasktrail serve`, or name its address (--url, TASKTRAIL_URL; Python: `Client(url)`)."


class AnotherProgram(ServiceUnreachable):
    """What answers at the address is no service, or one of another version. To ask again is no use."""

    code = "another_program"
    title = "Another program answers"
    remedy = "Check the address, and use the same version on both sides."


class TooCostly(TasktrailError):
    """A question whose answer takes more time or memory than one question may have."""

    code = "too_costly"
    status = 503
    title = "The answer takes too much"
    remedy = "Ask for less: one task, or an earlier position; or ask a copy of the data folder on a larger machine."


class NotReady(TasktrailError):
    """The service is starting, stopping or has lost its log; or it did not answer in time."""

    code = "not_ready"
    status = 503
    title = "The service is not ready"
    remedy = "Try again; if a command was sent, repeat it with the same command id."


class ConfigurationError(TasktrailError):
    """A configuration key is unknown or has a bad value."""

    code = "configuration"
    status = 500
    title = "The configuration cannot be used"
    remedy = "Correct the key; `tasktrail config` prints them all."


class WaitTimeout(TasktrailError):
    """The task did not end within the time to wait."""

    code = "wait_timeout"
    status = 504
    title = "The task has not ended in time"
    remedy = "The task goes on; wait again or look at its progress."


class HandlerFault(TasktrailError):
    """A handler module cannot be loaded or breaks the contract."""

    code = "handler_fault"
    status = 500
    title = "A handler cannot be used"
    remedy = "Correct the handler's module; `tasktrail types` shows what was found where."


# --- reasons to refuse operators' commands


class NothingToChange(TasktrailError):
    """The command changes nothing: it names nothing to change, or all of it holds already."""

    code = "nothing_to_change"
    status = 409
    title = "There is nothing to change"
    remedy = "`tasktrail limits` shows the limits and pauses in force."


class ChangedMeanwhile(TasktrailError):
    """The command rests on facts that were found a moment ago and are no longer true."""

    code = "changed_meanwhile"
    status = CONFLICT
    title = "Things have changed meanwhile"
    remedy = "Ask for it again."


class ScheduleExists(TasktrailError):
    """A schedule of this name is there already."""

    code = "schedule_exists"
    status = 409
    title = "There is already such a schedule"
    remedy = "Choose another name, or change it: `replace` (CLI: --replace)."


class UnknownSchedule(TasktrailError):
    """No schedule has this name."""

    code = "unknown_schedule"
    status = 404
    title = "There is no such schedule"
    remedy = "List them with `tasktrail schedule list`."


class EndpointDisabled(TasktrailError):
    """The receiver answered 410 Gone, so nothing is sent to it."""

    code = "endpoint_disabled"
    status = 409
    title = "The endpoint is disabled"
    remedy = "Enable it first: `tasktrail enable URL`; `tasktrail endpoints` lists the disabled ones."


class UnknownEndpoint(TasktrailError):
    """No endpoint with this address is disabled."""

    code = "unknown_endpoint"
    status = 404
    title = "There is no such disabled endpoint"
    remedy = "List them with `tasktrail endpoints`, and give the whole address."

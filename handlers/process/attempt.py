"""One attempt from `Run` to its end: call the handler, classify its answer, publish its output."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from ...events.errors import InvalidPath, OutputExists
from ...events.reports import AttemptEnded, AttemptProbed, AttemptProgressed, PublishWanted, Run
from ...events.task_events import Estimated
from ..contract import (
    ONE_CORE,
    Estimate,
    Finished,
    Job,
    Rejected,
    Room,
    StopAsked,
    Stopped,
    TaskContext,
    TaskType,
    Unusable,
    require_packages,
    versions_of,
)
from ..errors import BadAnswer, InputChanged, OutputMissing, PartMissing
from ..estimated import as_recorded
from ..inputs import Input
from ..io_errors import error_text
from ..kinds import readers_of_another_kind
from ..manifests import Signing
from ..originals import exchange, finish, kept, published_note, remove_used, use_up, why_kept
from ..pieces import settled, size_of
from ..publish import part_path, publish, remove_part, settle, space_before_publishing, staged_path, unstage
from ..workspace import make_private_folder
from .context import AttemptContext, Link, enough_for, plain_json, plain_text
from .output_pipe import flush, print_causes, print_trace
from .report_limits import BASIS_LIMIT, ERROR_LIMIT, MESSAGE_LIMIT, RESULT_LIMIT
from .sandbox import Sandbox, is_confined, recheck_input, recheck_output

if TYPE_CHECKING:
    from .remote_files import RemoteFiles

_HUGE = 2**31
_BY_SANDBOX = "; attempts are sandboxed: a type declares what it needs besides its input (reads=, writes=, network=)"
_BY_FOLDER = "; attempts work in folders of their own: take a file as a parameter, or name it by its whole path"
_BY_ENVIRONMENT = "; attempts see few environment variables: the key pass_environment names more"


_NO_BOUNDS = Sandbox()


def perform(
    run: Run,
    task_type: TaskType,
    link: Link,
    *,
    sandbox: Sandbox = _NO_BOUNDS,
    explain: Callable[[BaseException], BaseException] = lambda error: error,
    staged: Path | None = None,
    room: Room = ONE_CORE,
    hash_up_to: int = 0,
    signing: Signing | None = None,
    remote_files: "RemoteFiles | None" = None,
    home: str = "",
) -> AttemptEnded:
    """Run the handler and publish its output. Never raises, whatever the handler does.

    The end leaves out memory and CPU time: the worker measures them. `explain` may replace a raised error by one that
    names its cause. With `staged` the handler writes there, and nothing is published: the caller does that, with
    `deliver`. `room` is what the attempt may take of the machine if it runs alone. `hash_up_to`: bytes up to which
    files are hashed for the record. `signing`: gives the output a manifest. `remote_files`: stores the output
    elsewhere. `home`: where the type is declared, if known; the place of an error is sought there.
    """
    began = time.monotonic()
    temp = 0
    source: Input | None = None
    try:
        require_packages(task_type)
        recheck_input(run, sandbox)
        recheck_output(run, sandbox)
        source = Input(run.input_file, run.input_version) if run.input_file and task_type.steady_input else None
        tools = versions_of(task_type.packages) if staged is None else {}  # a handler may break what this needs
        ending = _handle(_without_stale_checkpoint(run, source, link), task_type, link, source, staged, room, signing)
        temp = _space_taken(run) if task_type.works_on_files or run.input_file or run.output_file else 0
        if ending.outcome == "completed" and staged is None:
            ending = _complete(run, task_type, link, sandbox, source, ending, tools, hash_up_to, remote_files)
    except Unusable as error:
        print_causes(error)
        cause = explain(error)  # a library that was refused memory may have called the input damaged
        ending = (
            _rejected(run, _naming_readers(str(error), run, task_type))
            if cause is error
            else failure(run, cause, error.__traceback__, home=home)
        )
    except InputChanged as error:
        ending = _changed(run, error)
    except BaseException as error:  # noqa: BLE001 - a handler may raise SystemExit; the worker must live on
        print_trace(error)
        ending = failure(run, explain(error), error.__traceback__, home=home, retry_on=task_type.retry_on)
    flush()
    if source is not None:
        ending = _blaming_changed_input(ending, source, run)
        ending = _with_input_facts(ending, source)
        source.close()
    if ending.outcome != "completed" and run.output_file:
        temp = temp or _space_taken(run)
        if staged is None:
            discard_output(run)
    return msgspec.structs.replace(ending, temp_used=temp, time_used=round(time.monotonic() - began, 3))


def deliver(
    run: Run,
    task_type: TaskType,
    link: Link,
    sandbox: Sandbox,
    source: Input | None,
    reported: AttemptEnded,
    hash_up_to: int = 0,
    remote_files: "RemoteFiles | None" = None,
) -> AttemptEnded:
    """Publish what a handler has staged, if it completed, and clear away what it left. Never raises.

    Nothing of the attempt runs any more, so the files stay as they are. The attempt's cost is taken from `reported`.
    """
    # The attempt's own claims about these are not trusted.
    ending = msgspec.structs.replace(reported, input_read=None, tools={}, output_sha256="")
    try:
        if ending.outcome == "completed":
            if _has_output(run, task_type, staged_path):
                unstage(Path(run.output_file), run.task_id)
            tools = versions_of(task_type.packages)
            ending = _complete(run, task_type, link, sandbox, source, ending, tools, hash_up_to, remote_files)
    except InputChanged as error:
        ending = _changed(run, error)
    except Exception as error:  # noqa: BLE001 - any error makes the attempt fail
        ending = failure(run, error)
    if source is not None:
        # The sandbox lets the attempt read the file that was opened here, but not another that has taken its name
        # since.
        ending = _with_input_facts(_blaming_changed_input(ending, source, run), source)
    if run.output_file:
        discard_output(run)
    return msgspec.structs.replace(
        reported,
        outcome=ending.outcome,
        result=ending.result,
        message=ending.message,
        error=ending.error,
        error_type=ending.error_type,
        input_read=ending.input_read,
        tools=ending.tools,
        output_sha256=ending.output_sha256,
    )


def finish_exchange(run: Run, task_type: TaskType, link: Link, sandbox: Sandbox) -> AttemptEnded | None:
    """Return the end of a task whose earlier attempt was killed after it had published a result that replaces files.

    None for any other task. Never raises.
    """
    used = task_type.used_up(run.output_file, run.options)
    if run.original == "keep" and not used:
        return None
    try:
        note = published_note(run)
        if note is None:
            return None
        recheck_output(run, sandbox)
        return finish(run, note, used) if _granted(run, link) else _stopped(run)
    except Exception as error:  # noqa: BLE001 - any error makes the attempt fail
        return failure(run, error)


def _without_stale_checkpoint(run: Run, source: Input | None, link: Link) -> Run:
    """The run, without its checkpoint if that was made from another content of the input."""
    if source is None or run.checkpoint is None or run.checkpoint.input_state in ("", source.stamp):
        return run
    link.send(AttemptProgressed(run.task_id, run.attempt, 0.0, "the input has changed since the checkpoint: from zero"))
    return msgspec.structs.replace(run, checkpoint=None)


def _handle(
    run: Run,
    task_type: TaskType,
    link: Link,
    source: Input | None,
    staged: Path | None,
    room: Room,
    signing: Signing | None,
) -> AttemptEnded:
    try:
        options = task_type.options_from(run.options)
    except msgspec.ValidationError as error:
        return _rejected(run, f"The options do not fit: {error}")
    if run.input_file or run.output_file:
        make_private_folder(Path(run.work_dir))
    if run.output_file and staged is None:
        # After a crash in the middle of publishing, the part may be a second name of the published file: writing into
        # it would change the output in place.
        remove_part(Path(run.output_file), run.task_id)
    if not has_room(run, task_type, options, link, room):
        return AttemptEnded(run.task_id, run.attempt, "outgrown", message="it needs more than was reserved")
    context = AttemptContext(run, options, link, source, staged, room)
    signs = signing if task_type.carries_manifest and run.input_file else None
    if signs is not None:
        signs.check(run)
    try:
        answer: object = task_type.handle(context)
    except* StopAsked:  # also from a group of asyncio's tasks
        answer = Stopped()
    finally:
        context.flush()
    ending = classify_answer(run, answer, stop_wanted=link.stop_wanted())
    if ending.outcome == "completed" and run.original != "keep" and (why := task_type.why_kept(context, ending.result)):
        return kept(ending, why, MESSAGE_LIMIT)
    if signs is not None and ending.outcome == "completed":
        return msgspec.structs.replace(ending, result={**ending.result, **signs.add_manifest(run, context.output_part)})
    return ending


def _complete(
    run: Run,
    task_type: TaskType,
    link: Link,
    sandbox: Sandbox,
    source: Input | None,
    ending: AttemptEnded,
    tools: Mapping[str, str],
    hash_up_to: int,
    remote_files: "RemoteFiles | None",
) -> AttemptEnded:
    """Publish the completed handler's output, if it made one, and if the input did not change meanwhile."""
    if tools:
        ending = msgspec.structs.replace(ending, tools=dict(tools))
    if source is not None:
        wanted = (
            run.hash_input or bool(run.input_url) or (task_type.hashes_input and 0 < source.state.size <= hash_up_to)
        )
        ending = msgspec.structs.replace(ending, input_read=source.facts(hashed=wanted))
        source.compare()
    if _has_output(run, task_type, part_path):
        recheck_output(run, sandbox)
        if run.original != "keep" and source is not None and (why := why_kept(run, source, ending)):
            discard_output(run)
            if used := task_type.used_up(run.output_file, run.options):
                if not _granted(run, link):
                    return _stopped(run)
                remove_used(used)  # a completed task has no retry that needs them
            return kept(ending, why, MESSAGE_LIMIT)
        return _publish(run, task_type, link, source, ending, hash_up_to, remote_files) or _stopped(run)
    return ending


def _has_output(run: Run, task_type: TaskType, written: Callable[[Path, int], Path]) -> bool:
    """Whether there is an output to publish, or must be; a type that needs no output may still be given one."""
    if task_type.needs_output or not run.output_file:
        return task_type.needs_output
    return os.path.lexists(written(Path(run.output_file), run.task_id))


def _blaming_changed_input(ending: AttemptEnded, source: Input, run: Run) -> AttemptEnded:
    """The end; a failure may become InputChanged: libraries report a file that is being written as damaged."""
    if ending.outcome not in ("failed", "rejected") or ending.error_type == InputChanged.__name__:
        return ending
    change = source.change()
    if not change:
        return ending
    detail = f" The handler said: {ending.error}" if ending.error else ""
    return _changed(run, InputChanged(f"{run.input_file} changed while it was read: {change}"), detail)


def _with_input_facts(ending: AttemptEnded, source: Input) -> AttemptEnded:
    """The end, with the facts about the input, unless it has them already, or the input changed."""
    if ending.input_read is not None or ending.error_type == InputChanged.__name__:
        return ending
    return msgspec.structs.replace(ending, input_read=source.facts(hashed=False))


def _changed(run: Run, error: InputChanged, detail: str = "") -> AttemptEnded:
    if run.input_url:  # the next copy has the same version, and pieces made from this copy would count as good
        for index in Path(run.work_dir).glob("*.index"):
            with suppress(OSError):
                index.unlink()
    text = plain_text(f"{error}{detail}", ERROR_LIMIT)
    return AttemptEnded(run.task_id, run.attempt, "failed", error=text, error_type=InputChanged.__name__)


def classify_answer(run: Run | TaskContext[Any], answer: object, *, stop_wanted: bool) -> AttemptEnded:
    """The end that the handler's answer means. Raises BadAnswer for an answer without a meaning."""
    match answer:
        case None:
            return AttemptEnded(run.task_id, run.attempt, "completed")
        case dict():
            return AttemptEnded(run.task_id, run.attempt, "completed", _plain_result(answer))
        case Finished(result=result, message=message):
            message = plain_text(message, MESSAGE_LIMIT)
            return AttemptEnded(run.task_id, run.attempt, "completed", _plain_result(result), message)
        case Rejected(reason=reason):
            return _rejected(run, reason)
        case Stopped() if stop_wanted:
            return _stopped(run)
        case Stopped():
            raise BadAnswer("The handler returned Stopped although no stop was requested")
    raise BadAnswer(f"The handler returned {type(answer).__name__}, which is not an allowed answer", remedy=_ANSWERS)


_ANSWERS = "From `@handler` return None, a dict, Finished, Stopped or Rejected; `@task` takes any plain value."


def _stopped(run: Run | TaskContext[Any]) -> AttemptEnded:
    return AttemptEnded(run.task_id, run.attempt, "stopped", message="stopped on request")


def _rejected(run: Run | TaskContext[Any], reason: str) -> AttemptEnded:
    text = plain_text(reason, ERROR_LIMIT)
    return AttemptEnded(run.task_id, run.attempt, "rejected", error=text, error_type="Rejected")


def _naming_readers(reason: str, run: Run, task_type: TaskType) -> str:
    """The reason; for a file of another kind than the type reads, also the types that read it."""
    readers = readers_of_another_kind(Path(run.input_file), task_type.accepts) if run.input_file else ""
    return f"{reason}; {readers}" if readers else reason


def failure(
    run: Run,
    error: BaseException,
    trace: TracebackType | None = None,
    *,
    home: str = "",
    retry_on: tuple[type[BaseException], ...] = (),
) -> AttemptEnded:
    """The failed end for an exception: its text, with its class name if the text is a single word, and its place.

    Our own refusals, of an answer or about the task's files, need no line: a place in our code would look like a fault
    there.
    """
    text = error_text(error)
    ours = isinstance(error, BadAnswer | InvalidPath | OutputExists | OutputMissing | PartMissing)
    where = "" if ours else _place(trace or error.__traceback__, home)
    where += _advice(error) if is_confined() else ""
    name = type(error).__name__
    if not text.split()[1:]:  # such as the key of a KeyError, or the number of a SystemExit
        text = f"{name}: {text}" if text else name
    text = plain_text(text, ERROR_LIMIT - len(where)) + where
    return AttemptEnded(
        run.task_id,
        run.attempt,
        "failed",
        error=text,
        error_type=name,
        exit_code=_exit_code(error),
        retry_on=next((kind.__name__ for kind in retry_on if isinstance(error, kind)), ""),
    )


def _place(trace: TracebackType | None, home: str) -> str:
    """Where the handler's own code was: its line says more to its author than one of Python's library.

    Own code is in the top-level package of `home`, or not installed. Where nothing of `home` was called, the module or
    package that we have called counts instead. Without any it is the innermost line.
    """
    calls = [(call.f_globals.get("__name__", ""), call.f_code.co_filename, line) for call, line in walk_tb(trace)]
    named = [(str(name).partition(".")[0], file, line) for name, file, line in calls]
    foreign = [call for call in named if call[0] not in _NOT_OWN and not call[1].startswith("<")]
    top = home.partition(":")[0].partition(".")[0]
    if top not in {call[0] for call in foreign}:
        top = foreign[0][0] if foreign else ""
    own = [call for call in foreign if call[0] == top or _INSTALLED.isdisjoint(Path(call[1]).parts)]
    place = next(reversed(own or named), None)
    return f" ({Path(place[1]).name}:{place[2]})" if place else ""


_NOT_OWN = {*sys.stdlib_module_names, "tasktrail", "__main__"}
_INSTALLED = {"site-packages", "dist-packages"}


def _advice(error: BaseException) -> str:
    """What to do about an error that comes from where attempts run, and that the same code has nowhere else."""
    if _lacks_a_right(error):
        return _BY_SANDBOX
    *_, (last, _) = walk_tb(error.__traceback__) if error.__traceback__ else [(None, 0)]
    if isinstance(error, KeyError) and last and last.f_locals.get("self") is os.environ:
        return _BY_ENVIRONMENT
    named = error.filename if isinstance(error, FileNotFoundError) else None
    in_subprocess = last is not None and last.f_globals.get("__name__") == "subprocess"  # then it names a program
    return _BY_FOLDER if isinstance(named, str) and not in_subprocess and not Path(named).is_absolute() else ""


def _lacks_a_right(error: BaseException | None) -> bool:
    """Whether the error, or one of its causes, is a PermissionError. `urllib` keeps the cause in `reason`."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, PermissionError) or isinstance(getattr(error, "reason", None), PermissionError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _exit_code(error: BaseException) -> int | None:
    """The exit code of a program, which `subprocess.CalledProcessError` and `SystemExit` carry."""
    code = getattr(error, "code" if isinstance(error, SystemExit) else "returncode", None)
    return code if isinstance(code, int) and abs(code) < _HUGE else None


def _plain_result(result: object) -> dict[str, Any]:
    if not result:
        return {}
    plain = msgspec.json.decode(plain_json(result, RESULT_LIMIT, "The result"))
    if not isinstance(plain, dict):
        raise BadAnswer(f"The result is {type(result).__name__}, not a dict", remedy=_ANSWERS)
    return plain


def _publish(
    run: Run,
    task_type: TaskType,
    link: Link,
    source: Input | None,
    ending: AttemptEnded,
    hash_up_to: int,
    remote_files: "RemoteFiles | None",
) -> AttemptEnded | None:
    """Publish under a grant, and return the end. None if the attempt is no longer wanted; then nothing appears.

    Raises InputChanged, and OutputExists if the name is taken.
    """
    output = Path(run.output_file)
    part = part_path(output, run.task_id)
    settle(part)
    if 0 < size_of(part) <= hash_up_to and (found := settled(part, sync=False)[1]) != ending.result.get("sha256"):
        # A handler of the user may mean another hash by `sha256`, and a compromised attempt may claim anything.
        ending = msgspec.structs.replace(ending, output_sha256=found)
    if remote_files is not None and run.output_url:
        return _store(run, link, source, ending, remote_files)
    if not _granted(run, link):
        return None
    used = task_type.used_up(run.output_file, run.options)
    if source is not None and run.original != "keep":
        return exchange(run, source, ending, used)
    if source is not None:
        source.compare()
    if used:
        return use_up(run, ending, used)
    publish(part, output, overwrite=run.overwrite, work_dir=Path(run.work_dir))
    return ending


def _store(
    run: Run, link: Link, source: Input | None, ending: AttemptEnded, remote_files: "RemoteFiles"
) -> AttemptEnded | None:
    """Do the same for an output that is stored elsewhere: here, too, the slow half comes before the grant."""
    part = part_path(Path(run.output_file), run.task_id)
    try:
        upload = remote_files.storing(run, part)
    except StopAsked:
        return None
    with upload:
        if not _granted(run, link):
            return None
        if source is not None:
            source.compare()
        upload.appear()
    return ending


def _granted(run: Run, link: Link) -> bool:
    """Ask whether the attempt is still wanted. From then on it is not stopped."""
    link.send(PublishWanted(run.task_id, run.attempt))
    return link.granted()


def _space_taken(run: Run) -> int:
    try:
        return space_before_publishing(Path(run.work_dir), Path(run.output_file), run.task_id)
    except (OSError, ValueError):
        return 0  # an impossible name: the attempt's own error says more


def discard_output(run: Run) -> None:
    """Remove what the attempt wrote for its output and did not publish."""
    try:
        remove_part(Path(run.output_file), run.task_id)
    except (OSError, ValueError):
        return  # the service removes it again when the task has ended


# --- the probe -----------------------------------------------------------------------------------------------------


def has_room(run: Run, task_type: TaskType, options: Any, link: Link, room: Room) -> bool:
    """Probe the input, if this attempt must, and report the estimate. False if too little was reserved.

    Only an attempt without a checkpoint probes, and only while the task has no estimate from a probe: a second probe
    would find the same. Raises what the type's `probe` raises.
    """
    if task_type.probe is None or run.probed or run.checkpoint is not None:
        return True
    estimate = _checked_estimate(task_type.probe_input(_job(run, options, room)))
    link.send(AttemptProbed(run.task_id, run.attempt, estimate))
    reserved = run.estimate
    return estimate.memory <= enough_for(reserved.memory) and estimate.temp <= enough_for(reserved.temp)


def _job(run: Run, options: Any, room: Room) -> Job[Any]:
    source = Path(run.input_file)
    size = source.stat().st_size if run.input_file else 0
    return Job(options=options, input_file=source, output_file=Path(run.output_file), input_size=size, room=room)


def _checked_estimate(found: object) -> Estimated:
    estimate = as_recorded(found, "The probe's answer")
    assert isinstance(found, Estimate)
    if not 0 <= found.seconds < inf or min(found.memory, found.temp) < 0:
        raise BadAnswer(f"The probe answered {found!r}, which is no estimate")
    basis = msgspec.json.decode(plain_json(found.basis, BASIS_LIMIT, "The estimate's basis"))
    if not isinstance(basis, dict):
        raise BadAnswer(f"The estimate's basis is {type(found.basis).__name__}, not a dict")
    return msgspec.structs.replace(estimate, basis=basis)

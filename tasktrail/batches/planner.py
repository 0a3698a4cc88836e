"""Plans a batch: which files there are, what each is, the name of its output, and what is done already.

Planning records and writes nothing. A plan creates its tasks by one command, so a batch exists whole or not at all.
"""

import hashlib
import os
import re
import stat
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ..errors import problem
from ..events import Accepted, CreateGraph, CreateTask, GraphTask, TaskState, TasktrailError
from ..events.commands import TaskFields
from ..events.errors import (
    CONFLICT,
    InvalidPath,
    InvalidValue,
    OutputExists,
    OutputsCollide,
    OutputTaken,
)
from ..events.task_events import output_of
from ..events.values import recordable
from ..handlers.contract import Job, TaskType
from ..handlers.kinds import Kind, kind_by_name, kinds_of
from ..handlers.originals import ORIGINAL_FIELD as ORIGINAL
from ..intake.examination import CommandIntake, refuse_odd
from ..intake.naming import Naming, full_pattern, is_folder, literal_folder
from ..intake.paths import check_writable, nearest, place_of
from ..intake.refusals import check_options, convert_options
from ..intake.whole_numbers import with_whole_numbers
from .files import FoundFile, Patience, Search
from .request import LeftOut, Made, MadeBatch, NewBatch, Refused, Skipped

_OF_EACH = tuple(
    name for name in TaskFields.__struct_fields__ if name not in ("type", "input_file", "output_file", "batch")
)
_USUAL = ("convert", "thumbnail", "preview")
"""If several types can read a file and write the output, the first of these is taken: all of it, or one picture of it.
But types that name this kind first go before: a film that becomes a png gives a frame, not a curve of its sound."""
_SHOWN = 3
_TO_THE_END = 2.0
"""Seconds between the publishing of an output and the recorded end of its task, at most."""
_OF_ONE = re.compile(r"tasks\[([0-9]+)\]\.?(.*)", re.DOTALL)
"""The field of a refusal that concerns one task of a graph."""
_REJECTED = "Rejected"
"""The error type of a task whose handler cannot use its input."""


class EarlierTasks(msgspec.Struct, frozen=True):
    """Questions about earlier tasks. Outputs are named by their places, in the questions and in the answers."""

    writers: Callable[[Sequence[str]], Mapping[str, TaskState]]
    """Output → the latest task of any batch that was to write it."""
    makers: Callable[[Sequence[str]], Mapping[str, TaskState]]
    """Output → the latest task that was to write it and has completed."""
    origins: Callable[[Sequence[str]], Mapping[str, TaskState]]
    """Output → the latest task that was to make it from another file, so not in place."""
    readers: Callable[[str, Sequence[str]], Mapping[str, TaskState]]
    """Batch and paths of inputs → for each input, the latest task of the batch that was to read it."""
    taken: Callable[[Sequence[str]], Mapping[str, OutputTaken]]
    """Output → the refusal that names the unfinished task which will write it, as far as the caller may know it."""


class _Candidate(msgspec.Struct, frozen=True):
    """A task that may be created. Because of links its files may have several paths, but each has one place."""

    task: CreateTask
    input: str
    """The place of the input."""
    output: str
    """The place of the output."""

    @property
    def inputs(self) -> set[str]:
        """The place of the input, and of the file itself where a link is there."""
        return {self.input, os.path.realpath(self.input)}

    @property
    def in_place(self) -> bool:
        """Whether the output is to replace the input."""
        return self.input == self.output


class Plan(msgspec.Struct, frozen=True):
    """The work to do for a batch."""

    graph: CreateGraph | None
    """The command to send; None if there is nothing to create."""
    folders: tuple[str, ...]
    """Folders of outputs, some of which may have to be made."""
    answer: MadeBatch
    """The answer, still without ids of tasks."""


class BatchPlanner:
    """Plans batches.

    Args:
        intake: examines each task.
        past: answers questions about earlier tasks.
    """

    def __init__(self, intake: CommandIntake, past: EarlierTasks) -> None:
        self._intake = intake
        self._past = past

    def plan(
        self,
        wanted: NewBatch,
        now: datetime,
        *,
        found: Sequence[FoundFile] | None = None,
        once: bool = False,
        patience: Patience | None = None,
    ) -> Plan:
        """Make the plan. Raises an error if the request as a whole is wrong.

        `found`: take these files instead of searching for those of `inputs`. `once`: skip a file if an earlier task of
        the batch has had its content, whatever that task did, and whatever became of it and of its output. `patience`:
        how long the caller waits for the plan.

        Raises:
            InvalidValue: there are too many files, or the pattern cannot be read.
            InvalidPath: nothing can be written into the folder of an output.
            OutputsCollide: two files would get the same output.
            InvalidOptions: they do not fit the type that was named.
            UnknownType: there is no such type.
            TooCostly: the files were not found in time.
            HungUp: the caller has gone.
        """
        patience = patience or Patience()
        refuse_odd(wanted)
        for field in ("input_file", "output_file", "unique"):
            if getattr(wanted, field):
                raise InvalidValue(
                    f"{field} is for a single file",
                    field=field,
                    remedy="Give `inputs` and `to`; each file gets its own.",
                )
        self._intake.check_shared(wanted)
        registry, paths = self._intake.registry, self._intake.paths
        preset = registry.presets.get(wanted.preset) if wanted.preset else None
        if preset is not None:
            wanted = registry.presets.with_preset(msgspec.structs.replace(wanted, type=wanted.type or preset.type))
        named = registry.get(wanted.type) if wanted.type else None
        wanted = self._intake.with_normalized_options(wanted)
        if named is not None:
            check_options(named, wanted.options)  # an error that every file would have is raised once
        paths.check_written_below(literal_folder(wanted.to))  # before the caller learns whether it exists
        suffix = (preset and preset.output_suffix) or (named and named.output_suffix) or ""
        naming = Naming(full_pattern(wanted.to, suffix))
        if found is None:
            avoid = (naming.fixed, wanted.original_folder)
            stopped = patience.begin()
            search = Search(paths.check_looked_at, avoid=avoid, protected=paths.protected, stopped=stopped)
            found = search.find(wanted.inputs)
        name = wanted.batch or _name(wanted.inputs[0], now)
        draft = _Draft(name, patience, once=once)
        candidates = self._candidates(wanted, name, naming, named, found, draft)
        candidates = self._without_outputs(candidates, draft)
        inputs = set().union(*(candidate.inputs for candidate in candidates))
        candidates = self._without_earlier_content(candidates, draft) if once else candidates
        candidates = _without_collisions(candidates, inputs, draft)
        self._sort_out(wanted, candidates, draft)
        plan = draft.plan(wanted)
        _refuse_closed(plan.folders)
        return plan

    def _candidates(
        self,
        wanted: NewBatch,
        name: str,
        naming: Naming,
        named: TaskType | None,
        found: Sequence[FoundFile],
        draft: "_Draft",
    ) -> list[_Candidate]:
        """Return a task for each file that can have one. The other files go into the draft, with the reason."""
        candidates: list[_Candidate] = []
        shared = {field: getattr(wanted, field) for field in _OF_EACH}
        for number, one in enumerate(found, 1):
            draft.patience.look()
            try:
                if one.error is not None:
                    raise one.error
                chosen = self._type_for(one, number, naming, named, wanted)
                if isinstance(chosen, str):
                    draft.left_out.append(LeftOut(input_file=one.path, why=chosen))
                    continue
                task_type, path = chosen
                options = _normalized_options(task_type, wanted.options)
                output = naming.output(path, one.folder, number, task_type.name, options)
            except InvalidValue:
                raise  # the pattern is wrong, which is the same for all files
            except (TasktrailError, OSError) as error:
                draft.refuse(one.path, error)
                continue
            task = CreateTask(**shared, type=task_type.name, input_file=one.path, output_file=output, batch=name)
            if task.original_folder and one.folder:  # each keeps its place below it
                task = msgspec.structs.replace(task, original_folder=f"{task.original_folder}/{one.folder}")
            candidates.append(_Candidate(task, place_of(one.path), place_of(output)))
        return candidates

    def _type_for(
        self, one: FoundFile, number: int, naming: Naming, named: TaskType | None, wanted: NewBatch
    ) -> tuple[TaskType, Path] | str:
        """Return the type of the file's task and the path to name its output by, or in words why no type fits.

        Raises the error of a damaged file.
        """
        path = Path(one.path)
        kinds, expected = kinds_of(path), kind_by_name(path)
        kind = kinds[0] if kinds else None
        if kind is None and expected is not None and (named is None or not named.accepts or expected in named.accepts):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise InvalidPath(
                    f"{path.name} is not a regular file",
                    field="inputs",
                    remedy="Leave it out, or name the files instead of the folder.",
                )
            empty = status.st_size == 0
            raise InvalidPath(
                f"{path.name} is empty"
                if empty
                else f"{path.name} is named like {_a(expected)}, but its content is not one",
                field="inputs",
                remedy="It may be damaged: copy it again.",
            )
        if named is not None:
            if not named.accepts or not set(named.accepts).isdisjoint(kinds):
                return named, path
            return f"{_a(kind)}, which {named.name} does not read"
        if kind is None:
            return "of no kind that is known"
        readers = sorted(
            (task_type for task_type in self._intake.registry if not set(task_type.accepts).isdisjoint(kinds)),
            key=lambda task_type: (task_type.accepts[0] != kind, _rank(task_type)),
        )
        if not readers:
            return f"{_a(kind)}, which no task type reads"

        def why_not(task_type: TaskType, path: Path, options: Mapping[str, Any]) -> TasktrailError | None:
            values = _normalized_options(task_type, wanted.options)
            output = Path(naming.output(path, one.folder, number, task_type.name, values))
            return _why_not(task_type, Path(one.path), output, options)

        def usual(task_type: TaskType) -> Path:
            return path.with_name(path.stem + task_type.output_suffix)

        for task_type in readers:
            if why_not(task_type, path, wanted.options) is None:
                return task_type, path
        for task_type in readers if is_folder(wanted.to) else ():
            if why_not(task_type, usual(task_type), wanted.options) is None:
                return task_type, usual(task_type)  # such as a film in a container that can be read but not written
        for task_type in readers if wanted.options else ():
            refusal = why_not(task_type, path, wanted.options)
            if refusal is not None and why_not(task_type, path, {}) is None:
                return f"{_a(kind)}; {refusal.message}"
        for task_type in readers:  # one that writes such an output, but lacks a program for the input
            for named_by in (path, usual(task_type)) if is_folder(wanted.to) else (path,):
                refusal = why_not(task_type, named_by, wanted.options)
                if refusal is not None and refusal.field == "input_file":
                    return f"{_a(kind)}, which {task_type.name} cannot read here. {refusal.advice}"
        output = Path(naming.output(path, one.folder, number, readers[0].name, wanted.options))
        return f"{_a(kind)}, which no task type turns into {output.suffix or 'a file without a suffix'}"

    def _without_outputs(self, candidates: Sequence[_Candidate], draft: "_Draft") -> list[_Candidate]:
        """Leave out files that were made from another file of the batch, or by the batch.

        A folder may hold the outputs made from its own files.
        """
        inputs = {candidate.input for candidate in candidates}
        chains = self._chains(inputs)
        kept = []
        for candidate in candidates:
            chain = chains[candidate.input]
            maker = chain[0] if chain else None
            made_here = any(one.spec.batch == draft.name for one in chain)
            if maker is not None and (
                made_here
                or place_of(maker.spec.input_file) in inputs
                or (_gave_way(maker) and _is_as_made(maker))  # its original is gone
            ):
                why = f"the output of task {maker.id}"
                draft.left_out.append(LeftOut(input_file=candidate.task.input_file, why=why, task_id=maker.id))
            else:
                kept.append(candidate)
        return kept

    def _without_earlier_content(self, candidates: Sequence[_Candidate], draft: "_Draft") -> list[_Candidate]:
        """Skip the files whose content has had a task of the batch."""
        paths = {path for candidate in candidates for path in (candidate.task.input_file, candidate.input)}
        readers = self._past.readers(draft.name, list(paths))
        kept = []
        for candidate in candidates:
            earlier = readers.get(candidate.task.input_file) or readers.get(candidate.input)
            try:
                skipped = _skipped(earlier, candidate, once=True) if earlier is not None else None
            except OSError as error:
                draft.refuse(candidate.task.input_file, error)
                continue
            if skipped is None:
                kept.append(candidate)
            else:
                draft.skipped.append(skipped)
        return kept

    def _chains(self, files: Collection[str]) -> Mapping[str, Sequence[TaskState]]:
        """Map each file to the task that made it, the task that made that one's input, and so on."""
        chains: dict[str, list[TaskState]] = {file: [] for file in files}
        ahead = {file: file for file in files}
        while ahead:
            makers = self._past.origins(list(set(ahead.values())))
            further: dict[str, str] = {}
            for file, made in ahead.items():
                maker = makers.get(made)
                if maker is None or any(maker.id == one.id for one in chains[file]):
                    continue
                before = place_of(maker.spec.input_file)
                if before != made:
                    chains[file].append(maker)
                    further[file] = before
            ahead = further
        return chains

    def _sort_out(self, wanted: NewBatch, candidates: Sequence[_Candidate], draft: "_Draft") -> None:
        """Sort the wishes into those done already, those that cannot be done, and the rest."""
        outputs = [candidate.output for candidate in candidates]
        writers, makers, taken = self._past.writers(outputs), self._past.makers(outputs), self._past.taken(outputs)
        for candidate in candidates:
            draft.patience.look()
            place = candidate.output
            try:
                self._decide(wanted, candidate, writers.get(place), makers.get(place), taken.get(place), draft)
            except (TasktrailError, OSError) as error:
                draft.refuse(candidate.task.input_file, error)

    def _decide(
        self,
        wanted: NewBatch,
        candidate: _Candidate,
        earlier: TaskState | None,
        maker: TaskState | None,
        taken: OutputTaken | None,
        draft: "_Draft",
    ) -> None:
        if earlier is not None and not (wanted.again and earlier.finished):
            candidate = msgspec.structs.replace(candidate, task=self._intake.with_normalized_options(candidate.task))
            if _asks_the_same(earlier, candidate) and (skipped := _skipped(earlier, candidate)):
                draft.skipped.append(skipped)
                return
        if taken is not None and not wanted.overwrite:
            raise taken
        # An output that was made from this very file, and is unchanged since, may be replaced.
        is_own_output = (
            maker is not None and place_of(maker.spec.input_file) == candidate.input and _is_untouched(maker)
        )
        if maker is not None and is_own_output and _gave_way(maker) and not candidate.in_place:
            is_own_output = False  # the result is all that is left of the file that had this name then
            if not wanted.overwrite:
                raise OutputExists(
                    f"{candidate.task.output_file!r} is the result of task {maker.id}, which has replaced its original",
                    field="output_file",
                    remedy="Give the new file another name, or move the result away.",
                )
        task = msgspec.structs.replace(candidate.task, overwrite=wanted.overwrite or is_own_output)
        draft.tasks.append(self._intake.examine_new(task))


class _Draft:
    """A plan in the making."""

    def __init__(self, name: str, patience: Patience, *, once: bool) -> None:
        self.name = name
        self.patience = patience
        self.once = once
        self.tasks: list[CreateTask] = []
        self.skipped: list[Skipped] = []
        self.left_out: list[LeftOut] = []
        self.refused: list[Refused] = []

    def refuse(self, path: str, error: TasktrailError | OSError) -> None:
        """Note that a file gets no task, because of an error."""
        if isinstance(error, OSError):
            link = os.path.islink(path)  # noqa: PTH114 - as text, like all of its files
            error = InvalidPath(
                f"{path!r} cannot be read: {error.strerror or error}",
                field="inputs",
                remedy="See where the link leads." if link else "See that the service may read it.",
            )
        self.refused.append(Refused(input_file=path, problem=problem(error)))

    def plan(self, wanted: NewBatch) -> Plan:
        """Make the plan."""
        made = (
            Made(task_id=0, type=task.type, input_file=task.input_file, output_file=task.output_file)
            for task in self.tasks
        )
        answer = MadeBatch(
            batch=self.name,
            position=0,
            created=tuple(made),
            skipped=tuple(self.skipped),
            left_out=tuple(self.left_out),
            refused=tuple(self.refused),
        )
        if not self.tasks:
            return Plan(None, (), answer)
        graph = CreateGraph(
            tasks=tuple(
                GraphTask(name=f"file-{number}", **{name: getattr(task, name) for name in TaskFields.__struct_fields__})
                for number, task in enumerate(self.tasks, 1)
            ),
            command_id=wanted.command_id,
            actor=wanted.actor,
            reason=wanted.reason,
            correlation_id=wanted.correlation_id,
            traceparent=wanted.traceparent,
        )
        folders = dict.fromkeys(os.path.dirname(task.output_file) for task in self.tasks if task.output_file)  # noqa: PTH120
        return Plan(graph, tuple(folders), answer)


async def carry_out(
    plan: Plan,
    wanted: NewBatch,
    send: Callable[[CreateGraph], Awaitable[Accepted | TasktrailError]],
    note: Callable[[Refused], None] = lambda _: None,
    made_before: Callable[[], MadeBatch | None] = lambda: None,
) -> MadeBatch:
    """Make the folders, send the command, and return the outcome. Raises the refusal.

    `note` is called for files that were refused before the command was sent. The receiver of the command knows the
    others. `made_before` returns the answer to the same request if that has made the batch since this one was planned.
    """
    if wanted.dry_run:
        return plan.answer
    for one in plan.answer.refused:
        note(one)
    if plan.graph is None:
        return made_before() or plan.answer
    closed = _make_folders(plan.folders)
    pairs = list(zip(plan.answer.created, plan.graph.tasks, strict=True))
    kept = [pair for pair in pairs if os.path.dirname(pair[1].output_file) not in closed]  # noqa: PTH120 - a text
    refused = tuple(
        Refused(input_file=one.input_file, problem=problem(closed[os.path.dirname(one.output_file)]))  # noqa: PTH120
        for one, _task in pairs
        if os.path.dirname(one.output_file) in closed  # noqa: PTH120
    )
    for one in refused:
        note(one)
    answer = msgspec.structs.replace(plan.answer, refused=plan.answer.refused + refused, created=())
    while kept:
        accepted = await send(msgspec.structs.replace(plan.graph, tasks=tuple(task for _one, task in kept)))
        if isinstance(accepted, Accepted):
            if not accepted.ids and (first := made_before()) is not None:
                return first
            made = tuple(msgspec.structs.replace(one, task_id=accepted.ids[task.name]) for one, task in kept)
            return msgspec.structs.replace(answer, created=made, position=accepted.position)
        kept, refused = _without_refused(kept, accepted)
        answer = msgspec.structs.replace(answer, refused=answer.refused + refused)
    return made_before() or answer


def _without_refused(
    pairs: Sequence[tuple[Made, GraphTask]], error: TasktrailError
) -> tuple[list[tuple[Made, GraphTask]], tuple[Refused, ...]]:
    """Take out the task that was refused, and others whose input has gone since the plan was made.

    Returns the tasks that are left, and the refused files. Raises a refusal that concerns no single task.
    """
    match = _OF_ONE.fullmatch(error.field)
    if match is None:
        raise error
    one, task = pairs[int(match[1])]
    error.field, error.message = match[2], error.message.removeprefix(f"Task {task.name}: ")
    refused = [Refused(input_file=one.input_file, problem=problem(error))]
    kept = []
    for other, its in pairs:
        if other is one:
            continue
        if os.path.lexists(other.input_file):
            kept.append((other, its))
        else:
            gone = InvalidPath(f"{other.input_file!r} has gone", field="input_file", status=CONFLICT)
            refused.append(Refused(input_file=other.input_file, problem=problem(gone)))
    return kept, tuple(refused)


def _make_folders(folders: Sequence[str]) -> dict[str, InvalidPath]:
    """Make the folders of outputs. Returns those that cannot be made, with the reason."""
    closed: dict[str, InvalidPath] = {}
    for folder in folders:
        try:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - a text
        except OSError as error:
            closed[folder] = InvalidPath(
                f"The folder {folder!r} cannot be made: {error.strerror}",
                field="to",
                remedy="Check the rights of the folder above it, or write to another one.",
            )
    return closed


def _why_not(task_type: TaskType, path: Path, output: Path, options: Mapping[str, Any]) -> TasktrailError | None:
    """Return why the type cannot write this output of the file with these options; None if it can."""
    try:
        job = Job(
            options=convert_options(task_type, _normalized_options(task_type, options)),
            input_file=path,
            output_file=output,
            input_size=0,
        )
        if task_type.check is not None:
            task_type.check(job)
    except TasktrailError as error:
        return error
    return None


def _normalized_options(task_type: TaskType, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as the type's schema means them: 6.0 is 6 for a whole number."""
    normalized: dict[str, Any] = with_whole_numbers(dict(options), task_type.options)
    return normalized


def _name(first: str, now: datetime) -> str:
    """Make a name from the input and the time, for a batch without one."""
    stem = Path(first.rstrip("/*")).name.split("*")[0].rstrip(".-_ ") or "batch"
    plain = "".join(letter if letter.isprintable() and letter not in ",/" else "_" for letter in stem)[:100].strip()
    return f"{plain or 'batch'}-{now:%Y%m%d-%H%M%S}"


def _a(kind: Kind | None) -> str:
    if kind is None:
        return "of no kind that is known"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _rank(task_type: TaskType) -> tuple[int, str]:
    word = task_type.name.rpartition("_")[2]
    return (_USUAL.index(word) if word in _USUAL else len(_USUAL), task_type.name)


def _without_collisions(candidates: Sequence[_Candidate], inputs: Collection[str], draft: _Draft) -> list[_Candidate]:
    """Refuse two files with the same output, and an output with the name of another file's input.

    A batch is then refused as a whole. The files of a source come one after the other: there only the later ones are
    refused.
    """
    writers: dict[str, _Candidate] = {}
    folders = _folders_of(candidate.output for candidate in candidates)
    kept: list[_Candidate] = []
    collisions: list[str] = []
    for candidate in candidates:
        path, output = candidate.task.input_file, candidate.task.output_file
        other = writers.setdefault(candidate.output, candidate)
        if other is not candidate:
            collisions.append(f"{other.task.input_file} and {path} would both become {output}")
        elif candidate.output in inputs and candidate.output not in candidate.inputs:
            collisions.append(f"{path} would replace {output}, which is another input")
        elif candidate.output in folders:
            collisions.append(f"{path} would become {output}, which is to be the folder of other outputs")
        else:
            kept.append(candidate)
            continue
        if draft.once:
            draft.refuse(path, OutputsCollide(collisions[-1], field="to"))
    if collisions and not draft.once:
        more = f"; and {len(collisions) - _SHOWN} more" if collisions[_SHOWN:] else ""
        raise OutputsCollide("; ".join(collisions[:_SHOWN]) + more, field="to")
    return kept


def _folders_of(paths: Iterable[str]) -> set[str]:
    """Return all folders that contain the paths, up to the root."""
    folders: set[str] = set()
    for path in paths:
        folder = os.path.dirname(path)  # noqa: PTH120 - a text
        while folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)  # noqa: PTH120
    return folders


def _refuse_closed(folders: Sequence[str]) -> None:
    """Raise an error if a folder of outputs cannot be written to: that would fail for every file below it."""
    for there in dict.fromkeys(map(nearest, folders)):
        if os.path.isdir(there):  # noqa: PTH112 - a text
            check_writable(there, "to")


def _asks_the_same(earlier: TaskState, candidate: _Candidate) -> bool:
    """Whether the earlier task does the same with the same file. What then happens to the file does not matter."""
    spec, task = earlier.spec, candidate.task
    return (spec.type, spec.options) == (task.type, task.options) and place_of(spec.input_file) == candidate.input


def _skipped(earlier: TaskState, candidate: _Candidate, *, once: bool = False) -> Skipped | None:
    """Return why nothing has to be done for a file; None if something has.

    `once`: skip the file even if the task did something else, or if its output is gone.
    """
    why, failed, task = "", False, candidate.task
    leaves = task.original == "keep"
    spec = earlier.spec
    as_wished = once or (spec.original, spec.original_folder) == (task.original, task.original_folder)
    if _gave_way(earlier) and output_of(spec) == candidate.input and _is_as_made(earlier):
        why = f"done by task {earlier.id}"  # the file there is the result
    elif earlier.status == "completed" and (kept := _kept(earlier)) and (once or not leaves) and _is_unchanged(earlier):
        why = f"task {earlier.id}: {kept}"
    elif earlier.finished and once and _is_no_newer(earlier):
        why, failed = f"task {earlier.id} has had it", earlier.status == "failed"
    elif not earlier.finished and as_wished:
        why = f"task {earlier.id} is to do the same" if earlier.waiting else f"task {earlier.id} is doing the same"
    elif (as_wished or leaves) and _is_as_made(earlier) and _is_unchanged(earlier):
        why = f"done by task {earlier.id}"
    elif earlier.status == "failed" and earlier.error_type == _REJECTED and _is_unchanged(earlier):
        why, failed = f"task {earlier.id} failed: {earlier.error}", True
    if not why:
        return None
    return Skipped(
        task_id=earlier.id,
        input_file=task.input_file,
        output_file=task.output_file,
        why=why,
        open=not earlier.finished,
        failed=failed,
    )


def _gave_way(earlier: TaskState) -> bool:
    """Whether the task's result has replaced the original."""
    return earlier.status == "completed" and earlier.spec.original != "keep" and not _kept(earlier)


def _kept(earlier: TaskState) -> str:
    """Return why the original was kept and there is no result; empty otherwise."""
    original = earlier.result.get(ORIGINAL)
    return str(original.get("kept", "")) if isinstance(original, dict) else ""


def _is_as_made(earlier: TaskState) -> bool:
    """Whether the output is there as the completed task left it, judged by its size if that is known."""
    if earlier.status != "completed" or _kept(earlier):
        return False
    try:
        found = os.stat(earlier.spec.output_file)  # noqa: PTH116 - for each of thousands of files
        size = found.st_size
        if stat.S_ISDIR(found.st_mode):  # such as a folder of pages: its size is that of all its files together
            size = _size_of_folder(earlier.spec.output_file, earlier.result.get("files"))
    except OSError:
        return False
    return bool(size == earlier.result.get("size", size))


def _size_of_folder(folder: str, listed: object) -> int:
    """Return the bytes of the files that a result lists, else of all files: a system may have added its own."""
    are_names = isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    names: list[str] = listed if isinstance(listed, list) and are_names else os.listdir(folder)  # noqa: PTH208 - texts
    return sum(os.lstat(os.path.join(folder, name)).st_size for name in names)  # noqa: PTH118 - texts


def _is_untouched(earlier: TaskState) -> bool:
    """Whether the output is what the completed task has published, unchanged since."""
    if not _is_as_made(earlier) or earlier.completed_at is None:
        return False
    changed = os.stat(earlier.spec.output_file).st_ctime  # noqa: PTH116 - as above
    return changed <= earlier.completed_at.timestamp() + _TO_THE_END


def _is_no_newer(earlier: TaskState) -> bool:
    """Whether the input has the content that the task read; if it read none, that from when the task was created."""
    if earlier.input_read is not None:
        return _is_unchanged(earlier)
    return os.stat(earlier.spec.input_file).st_ctime <= earlier.created_at.timestamp()  # noqa: PTH116 - as above


def _is_unchanged(earlier: TaskState) -> bool:
    """Whether the input has the content that the task read, by size and time; if only the time differs, by its bytes.

    A task that failed did not hash its input. Then another time counts as another content.
    """
    read = earlier.input_read
    if read is None:
        return False
    status = os.stat(earlier.spec.input_file)  # noqa: PTH116 - as above
    if status.st_size != read.size:
        return False
    if recordable(status.st_mtime_ns) == read.modified:
        return True
    if not read.sha256:
        return False
    with open(earlier.spec.input_file, "rb") as file:  # noqa: PTH123 - as above
        return hashlib.file_digest(file, "sha256").hexdigest() == read.sha256


__all__ = ["BatchPlanner", "EarlierTasks", "Plan", "carry_out"]

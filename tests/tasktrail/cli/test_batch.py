"""`tasktrail batch` and `batches`, on a service inside the process."""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tasktrail.api.service import TaskService
from tasktrail.batches.request import MadeBatch, NewBatch, Refused, Skipped
from tasktrail.cli import batch
from tasktrail.cli.app import run
from tasktrail.cli.batch import _report, _report_rest
from tasktrail.cli.progress import Signals
from tasktrail.events import CreateTask
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections import Batch

SUPPORT = str(Path(__file__).parents[2] / "support")


class Said(NamedTuple):
    """The result of a command line."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    monkeypatch.setenv("PYTHONPATH", SUPPORT)
    monkeypatch.setattr(sys, "path", [*sys.path, SUPPORT])
    monkeypatch.setattr("tasktrail.log_setup.set_up_logging", lambda *_, **__: None)  # it would last for other tests
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tasktrail.toml").write_text('handlers = ["sample_handlers"]\nworkers = 1\n')
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(f"this is {name}")

    def cli(*arguments: str) -> Said:
        code = run(["--data", "data", *arguments])
        return Said(code, *capsys.readouterr())

    return cli


ALL = ("batch", "in", "--to", "out/{folder}/{stem}.loud", "--type", "shout")


def test_on_a_terminal_batches_are_listed_with_their_ages(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("run", "shout", "in/a.txt", "out.loud").code == 0
    monkeypatch.setattr("tasktrail.cli.terminal.width_of", lambda _stream: 60)
    nothing = cli("batches").out.splitlines()
    assert (len(nothing), max(map(len, nothing)) <= 60) == (2, True)
    assert cli(*ALL, "--batch", "letters").code == 0
    shown = cli("batches").out.splitlines()
    assert re.search(r" \d+ [sm] ago$", shown[-1])


def test_a_folder_is_done_once_and_reported(cli: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "in" / "bad.txt").write_text("broken")
    first = cli(*ALL, "--batch", "letters")
    assert first.code == 1
    assert "batch letters: 3 completed, 1 failed, in " in first.out
    assert "bad.txt: bad.txt is broken (task 3)" in first.out
    assert "100 %" in first.err
    assert (tmp_path / "out" / "sub" / "c.loud").read_text() == "THIS IS SUB/C.TXT"

    (tmp_path / "in" / "bad.txt").unlink()
    again = cli(*ALL)
    assert (again.code, again.out) == (
        0,
        "skipped: 3 files that an earlier batch has done; --again does them once more\n",
    )

    listed = cli("batches")
    assert [line.split()[:4] for line in listed.out.splitlines()[2:]] == [["letters", "4", "3", "1"]]
    assert "1 failed" in cli("batches", "letters").out
    assert cli("batches", "none").code == 1
    assert cli("batches", "letters", "--as-of", "0").code == 1
    assert cli("batches", "--as-of", "0").out == "There was no batch then.\n"
    assert cli("batches", "letters", "--as-of", "now").out == cli("batches", "letters").out
    assert json.loads(cli("stats", "--as-of", "0", "--json").out)["total"] == 0
    assert [json.loads(line)["batch"] for line in cli("list", "--batch", "letters", "--json").out.splitlines()] == [
        "letters"
    ] * 4


def left_open(data: Path, **batches: list[Path]) -> None:
    """Return the batches of which nothing has been done yet."""
    with TaskService.open(data) as service:
        service.pause(type="shout")
        for name, inputs in batches.items():
            service.create_batch(inputs, data.parent / "out" / "{stem}.loud", type="shout", batch=name)
    with TaskService.open(data, own_only=True) as service:
        service.resume(type="shout")


def test_a_batch_that_is_to_do_already_is_done_whole_where_no_service_runs(
    cli: Callable[..., Said], tmp_path: Path
) -> None:
    """It used to follow the whole batch, and worked only on the one file that was named."""
    left_open(tmp_path / "data", letters=[tmp_path / "in"])
    said = cli("batch", "in/a.txt", "--to", "out/{stem}.loud", "--type", "shout")
    assert said.code == 0
    assert "batch letters: 3 completed" in said.out


def test_all_batches_are_followed_that_have_what_was_asked_for(
    cli: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to follow those of the first twenty files, and left the others open."""
    monkeypatch.setattr(batch, "_SHOWN", 1)
    left_open(
        tmp_path / "data", first=[tmp_path / "in" / "a.txt", tmp_path / "in" / "b.txt"], second=[tmp_path / "in/sub"]
    )
    said = cli("batch", "in", "--to", "out/{stem}.loud", "--type", "shout")
    assert said.code == 0
    assert "batch first: 2 completed" in said.out
    assert "batch second: 1 completed" in said.out


def test_json_is_the_answer_and_the_end(cli: Callable[..., Said]) -> None:
    said = cli(*ALL, "--json")
    made, batch = map(json.loads, said.out.splitlines())
    assert [one["task_id"] for one in made["created"]] == [1, 2, 3]
    assert (batch["batch"], batch["by_status"]) == (made["batch"], {"completed": 3})


def test_a_dry_run_tells_and_does_nothing(cli: Callable[..., Said], tmp_path: Path) -> None:
    said = cli(*ALL, "--dry-run")
    assert said.code == 0
    assert "would have 3 tasks" in said.out
    assert "in/sub/c.txt" in said.out
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["tasktrail.toml"]


def test_a_dry_run_without_a_service_knows_earlier_tasks_and_records_nothing(
    cli: Callable[..., Said], tmp_path: Path
) -> None:
    assert cli("batch", "in/a.txt", "--to", "out/{stem}.loud", "--type", "shout").code == 0
    with TaskService.open(tmp_path / "data", own_only=True) as service:
        source, taken = tmp_path / "in" / "a.txt", tmp_path / "out" / "b.loud"
        taken_by = service.create_task(type="shout", held=True, input_file=source, output_file=taken)
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        head = log.head()
    said = cli("batch", "in", "--to", "out/{stem}.loud", "--type", "shout", "--dry-run", "--json")
    told = json.loads(said.out)
    assert [Path(one["output_file"]).name for one in told["created"]] == ["c.loud"]
    assert [Path(one["output_file"]).name for one in told["skipped"]] == ["a.loud"]
    assert [f"ask {taken_by} " in one["problem"]["detail"] for one in told["refused"]] == [True]
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        assert log.head() == head


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_what_never_fits_is_told_before_there_is_a_log(cli: Callable[..., Said], tmp_path: Path, executor: str) -> None:
    with (tmp_path / "data" / "tasktrail.toml").open("a") as file:
        file.write(f'max_memory = "1KiB"\nexecutor = "{executor}"\n')
    said = cli("batch", "in", "--to", "out/", "--type", "shout", "--dry-run")
    assert (said.code, said.out.count("it needs "), said.out.count("max_memory is 1,024")) == (1, 3, 3)
    assert not (tmp_path / "data" / "log.db").exists()


def test_what_becomes_of_the_originals_is_told_before_and_after(cli: Callable[..., Said], tmp_path: Path) -> None:
    ask = ("batch", "in", "--to", "in/", "--type", "squeeze", "--batch", "tight", "--original")
    (tmp_path / "in" / "a.txt").write_text("aaabbb")

    said = cli(*ask, "replace", "--dry-run")
    assert "Each original will be removed once its result is there, whole and smaller; else it stays." in said.out
    said = cli(*ask, "move", "--original-folder", "old", "--dry-run")
    assert f"Each original will be moved below {tmp_path / 'old'} once" in said.out
    assert (tmp_path / "in" / "a.txt").read_text() == "aaabbb"

    for said in (cli(*ask, "replace"), cli("batches", "tight")):
        assert "originals that stay: 2" in said.out
        assert "in/sub/c.txt: the result is not smaller: 17 bytes instead of 17 (task 3)" in said.out
    assert "the original stays: the result is not smaller" in cli("show", "3").out


def test_a_list_on_standard_input(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    for listed in (b"in/a.txt\nin/sub/c.txt\n", b"in/a.txt\r\nin/sub/c.txt\r\n", b"in/a.txt\0in/sub/c.txt\0"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
        said = cli("batch", "-", "--to", "out/{stem}.loud", "--type", "shout", "--dry-run", "--json")
        assert [Path(one["input_file"]).name for one in json.loads(said.out)["created"]] == ["a.txt", "c.txt"]


def test_a_name_that_is_not_utf8_is_told(
    cli: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / os.fsdecode(b"gr\xfcn.txt")).write_text("x")
    said = cli(*ALL, "--dry-run")
    assert said.code == 1
    assert "would have 3 tasks" in said.out
    assert "gr\\xfcn.txt" in said.out
    assert said.err == "", "the views are whole"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"in/a.txt\nin/gr\xfcn.txt\n")))
    assert "gr\\xfcn.txt' has a name that is not UTF-8" in cli("batch", "-", "--to", "out/").err


def test_an_empty_list_is_nothing_to_do(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert cli("batch", "-", "--to", "out/") == (
        1,
        "",
        "There is nothing to do: the list on standard input is empty.\n",
    )


def test_a_reason_that_many_files_have_is_told_once(cli: Callable[..., Said], tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / "in" / f"{number:02}.bin").write_text("x")
    (tmp_path / "in" / "z.jpg").write_text("x")
    said = cli("batch", "in", "--to", "out/{stem}.jpg", "--dry-run")
    folder = tmp_path / "in"
    assert (
        f"""left out: 30
  of no kind that is known: {folder}/00.bin, {folder}/01.bin, {folder}/02.bin and 27 more; --json lists all
refused: 1
  {folder}/z.jpg: z.jpg is named like an image, but its content is not one. It may be damaged: copy it again.
"""
        in said.out
    )


def test_what_to_do_about_a_refusal_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    refused = tuple(
        Refused(input_file=f"/{number}", problem={"detail": "It is there already", "remedy": "Give --overwrite."})
        for number in range(5)
    )
    _report_rest(MadeBatch(batch="b", position=0, created=(), skipped=(), left_out=(), refused=refused))
    told = " ".join(capsys.readouterr().out.split())
    assert "It is there already: /0, /1, /2 and 2 more; --json lists all. Give --overwrite." in told


def test_what_has_become_of_the_bytes_is_told_where_the_types_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    nobody: Any = None  # asks about a batch without failures
    then = datetime(2026, 8, 1, tzinfo=UTC)
    counts: dict[str, Any] = {"total": 1, "by_status": {"completed": 1}, "progress": 100.0, "originals_kept": 0}
    for before, after in ((1000, 250), (50, 250), (1000, 0), (0, 250), (0, 0)):
        done = Batch(batch="b", created_at=then, completed_at=then, bytes_before=before, bytes_after=after, **counts)
        _report(nobody, done)
    told = [line.strip() for line in capsys.readouterr().out.splitlines() if not line.startswith("batch")]
    assert told == [
        "1000 B became 250 B, 25 % of the input",
        "50 B became 250 B, 5 times the input",
        "1000 B were read",
        "0 B became 250 B",
    ]


def test_what_is_being_done_already_is_not_told_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    going, done = (
        Skipped(task_id=1, input_file="/a", output_file="/b", why="task 1", open=state) for state in (True, False)
    )
    _report_rest(MadeBatch(batch="b", position=0, created=(), skipped=(going, going, done), left_out=(), refused=()))
    assert capsys.readouterr().out.splitlines() == [
        "skipped: 2 files that an earlier batch is to do, or is doing",
        "skipped: 1 file that an earlier batch has done; --again does them once more",
    ]


def test_a_batch_is_repeated_by_its_id(cli: Callable[..., Said], tmp_path: Path) -> None:
    first = cli(*ALL, "--batch", "letters", "--command-id", "mine", "--json").out.splitlines()
    (tmp_path / "in" / "new.txt").write_text("new")
    again = cli(*ALL, "--batch", "letters", "--command-id", "mine", "--json")
    assert json.loads(again.out.splitlines()[0]) == {**json.loads(first[0]), "repeated": True}
    assert (again.out.splitlines()[1:], again.code) == (first[1:], 0)
    told = cli(*ALL, "--batch", "letters", "--command-id", "mine")
    assert told.code == 0
    assert told.out.splitlines()[0].startswith("batch letters: 3 completed")
    assert "this command id has made the batch before" in told.out
    other = cli(*ALL, "--batch", "others", "--command-id", "mine")
    assert (other.code, "Command id mine was used for task 1" in other.err) == (1, True)


def test_ctrl_c_is_told_below_the_line_of_progress(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    @contextmanager
    def line(_live: object) -> Iterator[batch.Show]:
        yield lambda _done, _words, _held_by: None
        told.append("the line is gone")

    monkeypatch.setattr(batch, "_line", line)
    monkeypatch.setattr(batch, "say", lambda text, **_: told.append(text))
    monkeypatch.setattr(Signals, "next", lambda *_: 2)
    assert cli(*ALL, "--batch", "my letters").code == 130
    gone, left = told
    assert (gone, left.partition(":")[0]) == ("the line is gone", "left batch my letters")
    assert "`tasktrail batches 'my letters'`" in left
    assert "; the same command again goes on;" in left


def test_after_ctrl_c_again_is_left_out_so_that_nothing_is_done_a_third_time(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Signals, "next", lambda *_: 2)
    held = (*ALL, "--worker-label", "gpu", "--again")
    assert "; the same command without --again goes on;" in " ".join(cli(*held).err.split())
    said = cli(*held)
    assert (said.code, "refused" in said.err) == (130, False), "what has not been done is followed"


def test_with_a_command_id_again_stays_in_the_command_that_goes_on(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Signals, "next", lambda *_: 2)
    held = (*ALL, "--worker-label", "gpu", "--command-id", "mine")
    left = cli(*held, "--again")
    assert "; the same command again goes on;" in " ".join(left.err.split())
    assert cli(*held).code == 1, "without --again it is another request under this id"
    said = cli(*held, "--again")
    assert (said.code, said.err) == (130, left.err), "it follows the same batch"


def test_what_nothing_here_will_end_is_told_once(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Signals, "next", lambda *_: 2)
    for _again in range(2):
        said = cli(*ALL, "--worker-label", "gpu")
        assert said.code == 130
        assert "task 1 waits: no worker offers gpu; lifted by a start of the service" in said.err
        assert said.err.count("waits:") == 1


def test_while_nothing_of_a_batch_runs_its_line_says_why(
    cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.cli.progress._WHY_EVERY", 0.0)
    looks = iter([None, None, 2])
    monkeypatch.setattr(Signals, "next", lambda *_: next(looks))
    said = cli(*ALL, "--worker-label", "gpu")
    assert said.code == 130
    assert said.err.count("0.0 % 0 of 3 done; waiting: no worker offers gpu") == 1


def test_held_tasks_of_an_earlier_batch_are_told(
    cli: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TaskService.open(tmp_path / "data") as service:
        to = tmp_path / "out" / "{stem}.loud"
        service.create_batch([tmp_path / "in" / "a.txt"], to, type="shout", task={"held": True})
    monkeypatch.setattr(Signals, "next", lambda *_: 2)
    said = cli("batch", "in", "--to", "out/{stem}.loud", "--type", "shout")
    (told,) = [line for line in said.err.splitlines() if "waits:" in line]
    assert told.startswith("task 1 waits: is held until it is started")


def test_only_what_its_tasks_can_share_is_offered() -> None:
    offered = {one.name for one in batch.batch_command.params if one.name in CreateTask.__struct_fields__}
    assert "label" in offered
    assert offered <= {*NewBatch.__struct_fields__}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("batch", "nowhere", "--to", "out/", "--type", "shout"), 1, "There is nothing to do."),
        (("batch", "in", "--to", "out/x.loud", "--type", "shout"), 1, "would both become"),
        (("batch", "in", "--to", "{stem}.x", "--type", "nonsense"), 1, "nonsense"),
        ((*ALL, "--detach"), 2, "--detach needs a service"),
        ((*ALL, "--held", "--json"), 1, '"code":"cannot_start_now"'),
        (("batch", "nowhere", "--to", "out/", "--type", "shout", "--json"), 1, '"code":"invalid_path"'),
        ((*ALL, "--dry-run", "--batch", "a/b"), 1, "a name without"),
    ],
)
def test_a_first_batch_that_makes_nothing_begins_no_log(
    cli: Callable[..., Said], tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """A mistyped command must leave nothing behind."""
    said = cli(*arguments)
    assert (said.code, words in said.err + said.out) == (code, True)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["tasktrail.toml"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("batch", "in"), 2, "Missing option '--to'"),
        (("batch", "--to", "out/"), 2, "Missing argument 'IN…'"),
        (("batch", "in", "--to", "{stem}.x", "--type", "nonsense"), 1, "nonsense"),
        (("batch", "nowhere", "--to", "out/", "--type", "shout"), 1, "There is nothing to do."),
        (("batch", "in", "--to", "out/x.loud", "--type", "shout"), 1, "would both become"),
        (("batch", "in", "--to", "out/{stm}", "--type", "shout"), 1, "did you mean {stem}"),
        (("batches", os.fsdecode(b"\xe9")), 1, "No task belongs to a batch '\\xe9'"),
        (("batch", "in", "--to", "", "--type", "shout"), 1, "to may not be empty"),
        ((*ALL, "--detach"), 2, "--detach needs a service"),
        ((*ALL, "--batch", "a/b"), 1, "a name without"),
    ],
)
def test_wrong_use_is_told(cli: Callable[..., Said], arguments: tuple[str, ...], code: int, words: str) -> None:
    said = cli(*arguments)
    assert said.code == code
    assert words in " ".join(said.err.split())
    assert not cli("list", "--json").out

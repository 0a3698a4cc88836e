"""submit, start, cancel, retry: the typed line becomes a command, and its answer is printed."""

import json
import os
import pwd
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasktrail.api.reader import type_infos
from tasktrail.cli.app import run
from tasktrail.cli.session import Environment
from tasktrail.cli.submit import submit_command
from tasktrail.events import Accepted, CreateGraph, CreateTask, RetryTask, Started
from tasktrail.events.errors import OutcomeUnknown
from tasktrail.events.reports import AttemptEnded
from tasktrail.handlers.contract import Job, handler
from tasktrail.handlers.registry import Registry

ME = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def test_submit_prints_the_number_of_the_new_task(cli: Callable[..., Any], tasks: Any) -> None:
    shown = cli("submit", "noop")
    assert (shown.code, shown.out) == (0, "1\n")
    assert tasks.closed


def test_submit_prints_the_number_of_the_task_that_is_there_and_says_so(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[CreateTask] = []

    def answer(command: CreateTask) -> Accepted:
        asked.append(command)
        return Accepted(7, 9, command.command_id, existing=True)

    monkeypatch.setattr(tasks, "_record", answer)
    shown = cli("submit", "noop", "--unique", "nightly")
    assert (shown.code, shown.out) == (0, "7\n")
    assert shown.err == "Task 7 is open and has this key; nothing was created.\n"
    assert json.loads(cli("submit", "noop", "--unique", "nightly", "--json").out)["existing"] is True
    assert [command.unique for command in asked] == ["nightly", "nightly"]


def test_submit_as_json_prints_what_the_route_answers(cli: Callable[..., Any], tasks: Any) -> None:
    answer = json.loads(cli("submit", "noop", "--json").out)
    assert answer == {"task_id": 1, "position": 1, "command_id": tasks.sent[0].command_id}


def test_every_field_of_a_new_task_can_be_given(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop")
    tasks.create_task(type="noop")
    line = (
        "submit kind in.mov out.mp4 -o crf=28 --option name=two --priority 7 --max-retries 3 --retry-delay 1.5 "
        "--timeout 60 --held --scheduled-for 2026-08-01T22:00:00+02:00 --depends-on 1,2 --parent 1 --user-id 5 "
        "--user-level 2 --document-id 6 --estimated-time 90 --notify-email a@example.org "
        "--notify-webhook https://example.org/hook --callback-url https://example.org/back --overwrite --no-resume "
        "--command-id c1 --reason because --actor somebody"
    )
    assert cli(*line.split()).code == 0
    assert tasks.sent[-1] == CreateTask(
        type="kind",
        input_file=str(Path("in.mov").absolute()),
        output_file=str(Path("out.mp4").absolute()),
        options={"crf": 28, "name": "two"},
        priority=7,
        max_retries=3,
        retry_delay=1.5,
        timeout=60.0,
        held=True,
        scheduled_for=datetime(2026, 8, 1, 20, tzinfo=UTC),
        depends_on=(1, 2),
        parent_task_id=1,
        user_id=5,
        user_level=2,
        document_id=6,
        estimated_time=90.0,
        notify_email="a@example.org",
        notify_webhook="https://example.org/hook",
        callback_url="https://example.org/back",
        overwrite=True,
        resumable=False,
        command_id="c1",
        reason="because",
        actor="somebody",
    )


def test_the_fields_on_the_command_line_are_all_there_are() -> None:
    """A new field of `CreateTask` needs an option."""
    given = {parameter.name for parameter in submit_command.params} | {"type", "correlation_id"}
    renamed = {"task_type": "type"}
    assert set(CreateTask.__struct_fields__) - {renamed.get(str(name), name) for name in given} == set()


def test_what_is_not_given_is_left_to_the_commands_defaults(cli: Callable[..., Any], tasks: Any) -> None:
    cli("submit", "noop")
    (sent,) = tasks.sent
    assert len(sent.command_id) == 32
    assert sent == CreateTask(type="noop", actor=ME, command_id=sent.command_id)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ("[1,2]", [1, 2]),
        ('{"a":1}', {"a": 1}),
        ('"1"', "1"),
        ("plain text", "plain text"),
        ("a=b", "a=b"),
        ("", ""),
        ("NaN", "NaN"),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_the_value_of_an_option_is_json_when_it_reads_as_json(
    cli: Callable[..., Any], tasks: Any, text: str, value: object
) -> None:
    assert cli("submit", "noop", "-o", f"key={text}").code == 0
    assert tasks.sent[0].options == {"key": value}


@pytest.mark.parametrize(
    "line",
    [
        "submit",
        "submit noop -o novalue",
        "submit noop -o =3",
        "submit noop -o a=1 -o a=2",
        "submit noop --priority high",
        "submit noop --scheduled-for soon",
        "submit noop --scheduled-for 2026-13-01T22:00:00",
        "submit noop --depends-on 1,b",
        "submit noop in out more",
        "submit noop --from -",
        "submit --from - --priority 3",
        "submit --from /no/such/file",
        "cancel",
        "cancel 0",
        "cancel x",
        "show",
        "start 1 --nonsense",
    ],
)
def test_wrong_usage_is_told_with_exit_code_2_and_sends_nothing(cli: Callable[..., Any], tasks: Any, line: str) -> None:
    shown = cli(*line.split())
    assert shown.code == 2
    assert shown.out == ""
    assert "Error: " in shown.err
    assert tasks.sent == []


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("submit noop --priority 11", "priority"),
        ("submit noop --max-retries -1", "max_retries"),
        ("submit noop --timeout 0", "timeout"),
        ("submit noop --user-id -3", "user_id"),
        ("submit noop --reason " + "x" * 5000, "reason"),
        ("submit noop in\udcff out", "input_file"),
        ("submit noop -o name=\udcff", "options"),
    ],
)
def test_a_value_that_is_not_allowed_is_a_typed_error_naming_the_field(
    cli: Callable[..., Any], tasks: Any, line: str, field: str
) -> None:
    shown = cli(*line.split(), "--json")
    problem = json.loads(shown.err)
    assert shown.code == 1
    assert (problem["code"], problem["field"]) == ("invalid_value", field)
    assert problem["remedy"]
    assert tasks.sent == []


@pytest.mark.parametrize("line", ["submit noop in/f\udcfcr.png out", "list --label f\udcfcr.png"])
def test_bytes_that_are_not_utf8_are_shown_with_what_to_do(cli: Callable[..., Any], tasks: Any, line: str) -> None:
    shown = cli(*line.split())
    assert shown.code == 1
    assert "f\\xfcr.png' is not UTF-8\n" in shown.err
    assert "renamed, e.g. with `convmv`" in shown.err
    assert tasks.sent == []


def test_an_unknown_outcome_names_the_id_to_repeat_with(cli: Callable[..., Any], tasks: Any) -> None:
    def lose(_command: object) -> None:
        raise OutcomeUnknown("The answer was lost")

    tasks.send = lose
    shown = cli("submit", "noop", "--command-id", "mine")
    assert shown.code == 1
    assert "command id mine" in shown.err
    assert json.loads(cli("submit", "noop", "--command-id", "mine", "--json").err)["command_id"] == "mine"


def test_start_cancel_and_retry_say_who_and_why(cli: Callable[..., Any], tasks: Any) -> None:
    task_id = tasks.create_task(type="noop", held=True)
    assert cli("start", str(task_id), "--reason", "now").code == 0
    assert cli("cancel", str(task_id), "--actor", "boss").code == 0
    retried = cli("retry", str(task_id), "--force", "--reason", "again").out
    assert retried == f"task {task_id}: accepted at position 4\n"
    start, cancel, retry = tasks.sent[1:]
    assert (start.reason, start.actor) == ("now", ME)
    assert cancel.actor == "boss"
    assert retry == RetryTask(task_id=task_id, actor=ME, reason="again", force=True)


def test_a_refusal_does_not_keep_the_other_tasks_from_being_sent(cli: Callable[..., Any], tasks: Any) -> None:
    first, second = tasks.create_task(type="noop"), tasks.create_task(type="noop")
    shown = cli("cancel", str(first), "77", str(second))
    assert shown.code == 1
    assert [tasks.get_task(task_id).status for task_id in (first, second)] == ["cancelled"] * 2
    assert shown.err.startswith("tasktrail: Task 77 does not exist")


@pytest.mark.parametrize("line", [("cancel", "1"), ("cancel", "--type", "noop", "--yes")], ids=" ".join)
def test_without_a_service_cancel_opens_the_log_itself(
    cli: Callable[..., Any], tasks: Any, environment: Any, line: tuple[str, ...]
) -> None:
    """`serve` would first go on with the task that is not wanted any more."""
    tasks.create_task(type="noop")
    environment.running, environment.inside = None, tasks
    shown = cli(*line)
    assert (shown.code, shown.err) == (0, "")
    assert tasks.get_task(1).status == "cancelled"
    assert tasks.taken_on == []  # nothing was started for it
    assert tasks.closed


def test_without_a_service_the_other_changes_say_that_none_runs(
    cli: Callable[..., Any], tasks: Any, environment: Any
) -> None:
    environment.running, environment.inside = None, tasks
    for line in (("start", "1"), ("retry", "1"), ("retry", "--status", "failed")):
        shown = cli(*line)
        assert shown.code == 3
        assert "No service runs" in shown.err


def test_without_a_service_and_a_log_there_is_nothing_to_cancel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Environment()
    monkeypatch.setattr(real, "pause", lambda _seconds: None)
    assert run(("cancel", "1", "--data", str(tmp_path / "none")), real) == 1
    assert "There is no log" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_as_json_answers_go_to_stdout_and_problems_to_stderr(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop")
    shown = cli("cancel", "1", "77", "--json")
    assert json.loads(shown.out)["task_id"] == 1
    assert json.loads(shown.err)["code"] == "unknown_task"
    assert json.loads(shown.err)["task_id"] == 77


def test_a_retry_without_retries_left_needs_force(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop", max_retries=0)
    tasks.journal.record(1, Started())
    tasks.journal.send(AttemptEnded(task_id=1, attempt=1, outcome="failed", error="broken"))
    refused = cli("retry", "1")
    assert refused.code == 1
    assert "--force" in refused.err
    assert cli("retry", "1", "--force").code == 0


def test_a_graph_is_read_from_a_file_and_its_ids_are_printed(
    cli: Callable[..., Any], tasks: Any, tmp_path: Path
) -> None:
    waiting = {"name": "b", "type": "noop", "depends_on": ["a"], "input_file": "in"}
    graph = [waiting, {"name": "a", "type": "noop", "priority": 5.0}]
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph))
    assert cli("submit", "--graph", str(file), "--reason", "all").out == "a: 1\nb: 2\n"
    (sent,) = [command for command in tasks.sent if isinstance(command, CreateGraph)]
    assert (sent.reason, sent.actor) == ("all", ME)
    assert sent.tasks[0].input_file == str(Path("in").absolute())
    assert sent.tasks[1].priority == 5


@pytest.mark.parametrize(("text", "told"), [("{", "graph.json"), ('[{"type": "noop"}]', "name")])
def test_a_graph_that_cannot_be_read_is_refused(cli: Callable[..., Any], tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "graph.json"
    file.write_text(text)
    shown = cli("submit", "--graph", str(file))
    assert shown.code == 1
    assert told in shown.err


def test_a_graph_and_a_type_are_too_much(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text("[]")
    assert cli("submit", "noop", "--graph", str(tmp_path / "graph.json")).code == 2


def test_children_are_cancelled_when_asked_for(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop")
    assert cli("cancel", "1", "--children").code == 0
    assert tasks.sent[-1].children


def test_a_retry_says_when_it_is_due(cli: Callable[..., Any], tasks: Any) -> None:
    """At once, or after the requested delay; not after the one between automatic retries."""
    for _ in range(2):
        tasks.cancel_task(tasks.create_task(type="noop", retry_delay=90.0))
    later, at_once = cli("retry", "1", "--delay", "90").out, cli("retry", "2").out
    assert later == "task 1: accepted at position 5; due at 2026-01-31 12:01:30Z, in 1m 30s\n"
    assert at_once == "task 2: accepted at position 6\n"
    assert json.loads(cli("retry", "1", "--force", "--json").err)["code"] == "illegal_transition"


def test_a_retry_takes_filters_and_counts(cli: Callable[..., Any], tasks: Any) -> None:
    for retries in (1, 0):
        tasks.cancel_task(tasks.create_task(type="noop", max_retries=retries))
    shown = cli("retry", "--status", "cancelled", "--type", "noop", "--reason", "mended", "--delay", "5")
    assert {command.delay for command in tasks.sent[-2:]} == {5.0}
    assert (shown.code, shown.out) == (1, "1 retried, 1 refused\n")
    assert "Task 2 has used 0 of 0 retries" in shown.err
    assert json.loads(cli("retry", "--status", "cancelled", "--json").out)["count"] == 0


def test_the_same_advice_for_many_tasks_is_given_once(cli: Callable[..., Any], tasks: Any) -> None:
    for _ in range(3):
        tasks.cancel_task(tasks.create_task(type="noop", max_retries=0))
    shown = cli("retry", "--status", "cancelled").err
    assert shown.count("has used 0 of 0 retries") == 3
    assert shown.count("--force") == 1


def test_a_cancel_takes_filters_and_asks_with_a_count(
    cli: Callable[..., Any], tasks: Any, environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("import", "import", "other"):
        tasks.create_task(type="noop", label=label)
    asked: list[str] = []
    answers: list[bool | None] = [None, False, True]

    def ask(question: str) -> bool | None:
        asked.append(question)
        return answers.pop(0)

    monkeypatch.setattr(environment, "ask", ask)
    line = ("cancel", "--label", "import", "--reason", "wrong files")
    nobody, no = cli(*line), cli(*line)
    assert (nobody.code, no.code) == (2, 130)
    assert "--yes" in nobody.err
    assert [tasks.get_task(number).status for number in (1, 2, 3)] == ["pending"] * 3
    assert cli(*line) == (0, "2 cancelled, 0 refused\n", "")
    assert asked == ["Cancel 2 tasks?"] * 3
    assert [tasks.get_task(number).status for number in (1, 2, 3)] == ["cancelled", "cancelled", "pending"]
    assert tasks.sent[-1].reason == "wrong files"
    told = json.loads(cli("cancel", "--type", "noop", "--yes", "--json").out)
    assert (told["count"], told["cancelled"], told["refused"]) == (1, [3], [])


def test_a_cancel_of_what_is_over_is_refused(cli: Callable[..., Any]) -> None:
    shown = cli("cancel", "--status", "failed", "--yes")
    assert (shown.code, shown.out) == (1, "")
    assert "field: status" in shown.err


def test_a_list_takes_a_label(cli: Callable[..., Any], tasks: Any) -> None:
    for label in ("a", "b", "", "a"):
        tasks.create_task(type="noop", label=label)
    for labels, ids in (("a", [1, 4]), ("a,b", [1, 2, 4]), ("c", [])):
        told = cli("list", "--label", labels, "--sort", "id", "--json").out.splitlines()
        assert [json.loads(line)["id"] for line in told] == ids


@pytest.mark.parametrize(
    "line", [("retry",), ("retry", "1", "--status", "failed"), ("cancel",), ("cancel", "1", "--user", "1")]
)
def test_a_retry_wants_ids_or_filters(cli: Callable[..., Any], line: tuple[str, ...]) -> None:
    assert cli(*line).code == 2


@pytest.mark.parametrize("names", ["", " ", ","])
@pytest.mark.parametrize("command", ["cancel", "retry", "list"])
def test_a_filter_that_names_nothing_is_refused(cli: Callable[..., Any], tasks: Any, command: str, names: str) -> None:
    """In a script it is a variable that is not set. With another filter beside it, all tasks of that would pass."""
    tasks.create_task(type="noop")
    shown = cli(command, "--type", "noop", "--batch", names, *(["--yes"] if command == "cancel" else []))
    assert (shown.code != 0, "batch" in shown.err) == (True, True)
    assert not [sent for sent in tasks.sent if not isinstance(sent, CreateTask)]


@pytest.mark.parametrize(("given", "meant"), [("wait", "wait"), ("fail, ignore", ("fail", "ignore"))])
def test_policies_are_one_or_one_for_each(cli: Callable[..., Any], tasks: Any, given: str, meant: Any) -> None:
    for _ in range(2):
        tasks.create_task(type="noop")
    assert cli("submit", "noop", "--depends-on", "1,2", "--on-dependency-failure", given).code == 0
    assert tasks.sent[-1].on_dependency_failure == meant
    assert cli("submit", "noop", "--on-dependency-failure", "shrug").code == 2


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Any) -> Path:
    """Enter a folder with a picture, with the built-in types."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a photo.heic").write_bytes(b"")
    (tmp_path / "out").mkdir()
    infos = type_infos(Registry.load())
    monkeypatch.setattr(environment, "types", lambda _session: (infos, []))
    return tmp_path


def test_a_path_that_climbs_names_the_file_that_other_programs_find(
    cli: Callable[..., Any], tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a link, `..` is the folder above the one that the link leads to."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to("../far/deep")
    (tmp_path / "far" / "link").symlink_to("deep")
    monkeypatch.chdir(tmp_path / "here")

    assert cli("submit", "noop", "./new/../../in.jpg", "link/../link/out.jpg").code == 0

    task = tasks.sent[-1]
    assert (task.input_file, task.output_file) == (f"{tmp_path}/in.jpg", f"{tmp_path}/far/link/out.jpg")


def test_a_path_that_climbs_from_what_no_file_is_called_is_left_for_the_check(
    cli: Callable[..., Any], tasks: Any, tmp_path: Path
) -> None:
    (tmp_path / "lines").write_text(
        '{"command": "create_task", "type": "noop", "input_file": "a\\u0000/../b\\u0000"}\n'
    )
    assert cli("submit", "--from", str(tmp_path / "lines")).err == ""
    assert tasks.sent[-1].input_file.endswith("/b\0")


def test_inputs_and_outputs_of_many_files_may_climb(
    cli: Callable[..., Any], tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    line = ("source", "add", "films", "../in/*.jpg", "--to", "a/../../{stem}/../out/", "--original-folder", "../old")

    assert cli(*line, "--original", "move").code == 0

    source = tasks.sent[-1]
    assert (source.inputs, source.to) == ((f"{tmp_path}/in/*.jpg",), f"{tmp_path}/out/")
    assert source.task.original_folder == f"{tmp_path}/old"


@pytest.mark.parametrize(
    ("task_type", "more", "name"),
    [
        ("image_thumbnail", ("out",), "out/a photo.jpg"),
        ("image_thumbnail", ("out/",), "out/a photo.jpg"),
        ("image_thumbnail", ("out", "--format", "webp"), "out/a photo.webp"),
        ("image_thumbnail", ("out", "--format", ".png"), "out/a photo.png"),
        ("image_convert", ("out",), "out/a photo.heic"),
        ("video_convert", (".",), "a photo.mp4"),
        ("document_preview", ("new/deep/", "-p"), "new/deep/a photo.png"),
        ("document_preview", ("new/deep/page.png", "-p"), "new/deep/page.png"),
        ("own_type", ("out",), "out/a photo.heic"),
    ],
)
def test_a_folder_is_taken_as_output(
    cli: Callable[..., Any], tasks: Any, in_folder: Path, task_type: str, more: tuple[str, ...], name: str
) -> None:
    assert cli("submit", task_type, "a photo.heic", *more).code == 0
    assert tasks.sent[-1].output_file == str(in_folder / name)
    assert (in_folder / name).parent.is_dir()


@pytest.mark.parametrize(
    "more", [("missing/page.png",), ("out/page.png", "--format", "webp"), ("missing", "--format", "webp")]
)
def test_no_folder_is_made_unasked(cli: Callable[..., Any], in_folder: Path, more: tuple[str, ...]) -> None:
    cli("submit", "image_thumbnail", "a photo.heic", *more)
    assert sorted(path.name for path in in_folder.iterdir()) == ["a photo.heic", "out"]


def test_every_built_in_type_can_write_what_it_calls_its_output() -> None:
    # A PDF: other documents need LibreOffice, which may not be there.
    inputs = {"model_preview": "in.stl", "document_preview": "in.pdf", "document_convert": "in.pdf"}
    for task_type in Registry.load():
        source = Path("/in") / inputs.get(task_type.name, "in.mov")
        output = Path("/out") / f"a{task_type.output_suffix}"
        if task_type.check is not None and task_type.output_suffix:
            task_type.check(Job(options=task_type.options(), input_file=source, output_file=output))


@pytest.mark.parametrize("suffix", ["jpg", "./jpg"])
def test_a_suffix_that_is_none_is_refused_where_the_type_is_made(suffix: str) -> None:
    with pytest.raises(ValueError, match="output_suffix"):
        handler("own", output_suffix=suffix)(lambda _context: None)

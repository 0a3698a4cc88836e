"""seal, prove and verify --seals on real folders, with witnesses on loopback."""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forgery import forging
from histories import Journal
from scripted_witness import ScriptedWitness
from sealed_logs import chained_anew
from time_authority import TimeAuthority

from tasktrail.actors import witnesses
from tasktrail.actors.witnesses import WitnessResult
from tasktrail.cli.session import Environment
from tasktrail.events.clock import SystemClock
from tasktrail.events.errors import LogUnreachable
from tasktrail.events.log.rows import COLUMNS
from tasktrail.events.log.sqlite import SqliteEventLog


@pytest.fixture
def environment() -> Environment:
    """The real ones."""
    return Environment()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    log = SqliteEventLog(folder / "log.db", now=SystemClock().now())
    journal = Journal(log)
    for _ in range(3):
        journal.create("noop", input_file="/in/film.mov")
    log.close()
    return folder


def add(cli: Callable[..., Any], data: Path, *witnesses: ScriptedWitness) -> str:
    for one in witnesses:
        assert cli("witness", "add", "--data", str(data), one.named.url, "--key", one.key).code == 0
    return str(data)


def test_a_seal_tells_who_has_signed_it_and_verify_how_far(cli: Callable[..., Any], data: Path) -> None:
    with ScriptedWitness() as witness, ScriptedWitness(lambda _: (503, b""), name="busy") as busy:
        folder = add(cli, data, witness, busy)
        shown = cli("seal", "--data", folder)
        assert (shown.code, "signed by the witness w at 2023-11-14T22:13:20Z" in shown.out) == (0, True)
        assert "not signed by the witness busy: it cannot sign now (HTTP 503)" in shown.err
        assert "`tasktrail witness remove busy`" in " ".join(shown.err.split())
        told = json.loads(cli("seal", "--data", folder, "--json").out)
        assert [one["outcome"] for one in told["witnesses"]] == ["signed", "absent"]
    seals = str(data / "seals")
    shown = cli("verify", "--data", folder, "--seals", seals)
    assert shown.code == 0
    assert "the witness w has signed up to 3, at 2023-11-14T22:13:20Z" in shown.out
    assert "the witness busy has signed no seal that fits" in shown.out
    asked = cli("verify", "--data", folder, "--seals", seals, "--witness", witness.key, "--json")
    assert (asked.code, json.loads(asked.out)["witnessed"][0]["position"]) == (0, 3)
    (data / "busy.key").write_text(busy.key)
    asked = cli("verify", "--data", folder, "--seals", seals, "--witness", str(data / "busy.key"))
    assert (asked.code, "no matching seal is signed by the witness busy" in asked.out) == (4, True)
    assert cli("verify", "--data", folder, "--witness", witness.key).code == 2


def test_a_witness_that_has_signed_another_log_makes_the_exit_code_4(cli: Callable[..., Any], data: Path) -> None:
    with ScriptedWitness(lambda _: (409, b"100\n")) as witness:
        shown = cli("seal", "--data", add(cli, data, witness))
    assert (shown.code, "sealed 3 records" in shown.out) == (4, True)
    assert "it has signed 100 records, and this log has only 3" in " ".join(shown.err.split())


def test_witnesses_are_added_listed_and_removed(cli: Callable[..., Any], data: Path) -> None:
    ask = ("--data", str(data))
    assert "There is no witness" in cli("witness", "list", *ask).out
    with ScriptedWitness() as witness, ScriptedWitness(name="x") as other:
        (data / "x.key").write_text(f"{other.key}\n")
        told = json.loads(cli("witness", "add", *ask, other.named.url, "--key", str(data / "x.key"), "--json").out)
        assert told == {"witness": "x", "url": other.named.url, "key": other.key}
        assert (data / "witnesses.json").stat().st_mode & 0o777 == 0o600
        cli("seal", *ask)
        add(cli, data, witness)
        listed = [json.loads(line) for line in cli("witness", "list", *ask, "--json").out.splitlines()]
        signed = [(one["witness"], one["position"], one["at"]) for one in listed]
        assert signed == [("x", 3, "2023-11-14T22:13:20Z"), ("w", 0, None)]
        lines = cli("witness", "list", *ask).out.splitlines()
        assert lines[0].split() == ["NAME", "SIGNED", "UP", "TO", "AT", "URL"]
        assert lines[2].split() == ["x", "3", "2023-11-14T22:13:20Z", other.named.url]
        again = cli("witness", "add", *ask, "http://other.example", "--key", witness.key)
        assert (again.code, "There is a witness w already" in again.err) == (1, True)
        gone = cli("witness", "remove", *ask, "x")
        assert (gone.code, gone.out) == (0, "the witness x is asked no more\n")
        assert json.loads(cli("witness", "remove", *ask, witness.named.url, "--json").out)["witness"] == "w"
    missing = cli("witness", "remove", *ask, "x")
    assert (missing.code, "There is no witness x" in missing.err) == (1, True)
    assert cli("witness", "list", *ask, "--json").out == ""


def test_a_log_that_is_not_as_it_was_sealed_makes_the_exit_code_4(cli: Callable[..., Any], data: Path) -> None:
    assert cli("seal", "--data", str(data)).code == 0
    chained_anew(data / "log.db", lambda rows: rows[1].__setitem__(COLUMNS.index("reason"), "another"))
    for command in (("seal",), ("prove", "1"), ("prove", "--from", "3")):
        told = cli(*command, "--data", str(data), "--json")
        assert (told.code, json.loads(told.err)["code"]) == (4, "not_as_sealed")


def test_a_record_that_was_changed_makes_the_exit_code_4(cli: Callable[..., Any], data: Path) -> None:
    assert cli("seal", "--data", str(data)).code == 0
    with forging(data / "log.db") as conn:
        conn.execute("UPDATE events SET actor = 'carl' WHERE position = 1")
    told = cli("prove", "1", "--data", str(data), "--json")
    assert (told.code, json.loads(told.err)["code"]) == (4, "not_as_sealed")


@pytest.mark.parametrize("url", ["ftp://a", "http://a:b@c", "witness.example", "https://a/b?c"])
def test_a_wrong_address_or_key_of_a_witness_is_refused(cli: Callable[..., Any], data: Path, url: str) -> None:
    key = ScriptedWitness().key
    told = json.loads(cli("witness", "add", "--data", str(data), url, "--key", key, "--json").err)
    assert (told["code"], told["field"]) == ("invalid_value", "url")
    for wrong in (key[:-1], f"v{key}", "nowhere.key"):
        told = json.loads(cli("witness", "add", "--data", str(data), "https://a", "--key", wrong, "--json").err)
        assert (told["code"], told["field"]) == ("seal_unfit", "key")
    assert told["detail"] == "There is no public key in nowhere.key: No such file or directory"
    assert "as the operator of the witness publishes it" in told["remedy"]
    assert not (data / "witnesses.json").exists()


@pytest.mark.parametrize("content", ["{", "[{}]", '[{"url": "https://a", "key": "w+0+a"}]', '{"witnesses": []}'])
def test_a_damaged_list_of_witnesses_is_named_and_the_log_is_sealed_and_checked_all_the_same(
    cli: Callable[..., Any], data: Path, content: str
) -> None:
    file = data / "witnesses.json"
    file.write_text(content)
    shown = cli("seal", "--data", str(data))
    assert (shown.code, "sealed 3 records" in shown.out, str(file) in shown.err) == (1, True, True)
    checked = cli("verify", "--data", str(data), "--seals", str(data / "seals"))
    assert (checked.code, "as it was sealed up to 3" in checked.out, str(file) in checked.err) == (0, True, True)
    for line in (("list",), ("add", "https://a", "--key", ScriptedWitness().key), ("remove", "w")):
        told = cli("witness", *line, "--data", str(data))
        assert (told.code, "`tasktrail witness add`" in " ".join(told.err.split())) == (1, True)
    assert file.read_text() == content


def test_a_seal_is_told_although_the_log_goes_away_while_witnesses_are_asked(
    cli: Callable[..., Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server may: the seal is kept by then, and so is the first witness's signature."""

    def ask(*_arguments: Any, **_how: Any) -> Iterator[WitnessResult]:
        yield WitnessResult(witness="w", url="https://w.example", outcome="signed", at="2023-11-14T22:13:20Z")
        raise LogUnreachable("The server at db is gone")

    monkeypatch.setattr(witnesses, "ask_witnesses", ask)
    shown = cli("seal", "--data", str(data))
    assert (shown.code, "sealed 3 records" in shown.out) == (1, True)
    assert "signed by the witness w at 2023-11-14T22:13:20Z" in shown.out
    assert "The server at db is gone" in shown.err


def test_growth_is_proven_from_one_seal_to_another(cli: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    folder = str(data)
    cli("seal", "--data", folder)
    out = tmp_path / "growth.json"
    for begin in ("3", str(data / "seals" / "3.note")):
        assert cli("prove", "--data", folder, "--from", begin, "--out", str(out)).code == 0
        growth = json.loads(out.read_text())
        assert (growth["format"], growth["old"], growth["path"]) == ("tasktrail growth 1", 3, [])
        assert json.loads(cli("prove", "--data", folder, "--from", begin, "--to", "3").out) == growth
    missing = cli("prove", "--data", folder, "--from", "2")
    assert (missing.code, "There is no seal of 2 records" in missing.err) == (1, True)
    assert [path.name for path in tmp_path.glob("*growth*")] == ["growth.json"]
    nowhere = cli("prove", "--data", folder, "--from", "3", "--out", str(tmp_path / "no" / "growth.json"))
    assert (nowhere.code, "Nothing can be written beside" in " ".join(nowhere.err.split())) == (1, True)
    for wrong in ((), ("1", "--from", "3"), ("1", "--to", "3")):
        assert cli("prove", "--data", folder, *wrong).code == 2


def test_a_proof_for_the_file_named_minus_goes_to_standard_output(
    cli: Callable[..., Any], data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As with `export`, and most other programs."""
    cli("seal", "--data", str(data))
    monkeypatch.chdir(tmp_path)
    envelope = {"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": []}
    monkeypatch.setattr(Environment, "provenance", lambda *_: envelope)
    assert json.loads(cli("provenance", "--data", str(data), "1", "--out", "-").out) == envelope
    for wanted in (("1",), ("--from", "3")):
        assert (
            cli("prove", "--data", str(data), *wanted, "--out", "-").out
            == cli("prove", "--data", str(data), *wanted).out
        )
    assert not (tmp_path / "-").exists()
    for command in (("prove", "1"), ("provenance", "1", "--json"), ("log", "export")):
        assert cli(*command, "--data", str(data), "--out", "./-").code == 0
        (tmp_path / "-").unlink()


def test_the_tree_is_written_as_tiles(cli: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    folder, out = str(data), tmp_path / "tiles"
    missing = cli("log", "export", "--data", folder, "--tiles", str(out))
    assert (missing.code, "`tasktrail seal`" in missing.err) == (1, True)
    cli("seal", "--data", folder)
    shown = cli("log", "export", "--data", folder, "--tiles", str(out))
    assert (shown.code, "the tree of 3 records, 2 files are new" in " ".join(shown.out.split())) == (0, True)
    told = json.loads(cli("log", "export", "--data", folder, "--tiles", str(out), "--json").out)
    assert (told["folder"], told["size"], told["files"]) == (str(out), 3, 0)
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == ["checkpoint", "tile/0/000.p/3", "tile/entries/000.p/3"]
    assert (out / "checkpoint").read_bytes() == (data / "seals" / "3.note").read_bytes()
    wrong = cli("log", "export", "--data", folder, "--tiles", str(out), "--format", "csv")
    assert (wrong.code, "takes no --format" in wrong.err) == (2, True)
    assert cli("log", "export", "--url", "http://127.0.0.1:1", "--tiles", str(out)).code == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is the time authority")
def test_the_newest_seal_is_stamped_and_made_if_the_log_has_grown(
    cli: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    folder, seals = str(data), str(data / "seals")
    with TimeAuthority(tmp_path / "tsa") as authority:
        shown = cli("anchor", "tsa", authority.url, "--data", folder)
        assert (shown.code, f"stamped by {authority.url} at 20" in " ".join(shown.out.split())) == (0, True)
        told = json.loads(cli("anchor", "tsa", "--data", folder, authority.url, "--json").out)
        assert (told["size"], told["stamped_at"][-1:]) == (3, "Z")
        assert sorted(path.name for path in (data / "seals").iterdir()) == ["3.note", "3.tsr", "key"]
    again = cli("anchor", "tsa", "--data", folder, "http://127.0.0.1:9/")
    assert (again.code, f"stamped already, at {told['stamped_at']}" in " ".join(again.out.split())) == (0, True)
    kept = (data / "seals" / "3.tsr").rename(tmp_path / "3.tsr")
    gone = cli("anchor", "tsa", "--data", folder, authority.url)
    kept.rename(data / "seals" / "3.tsr")
    assert (gone.code, "sealed 3 records" in gone.out, "has not stamped" in gone.err) == (1, True, True)
    shown = cli("verify", "--data", folder, "--seals", seals, "--authority", str(authority.root))
    assert (shown.code, "stamped by a time authority up to 3, at 20" in shown.out) == (0, True)
    assert "stamped" not in cli("verify", "--data", folder, "--seals", seals).out
    assert cli("verify", "--data", folder, "--authority", str(authority.root)).code == 2


def test_without_the_extra_a_stamp_says_what_to_install_and_seals_nothing(
    cli: Callable[..., Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    (tmp_path / "root.pem").touch()
    told = cli("anchor", "tsa", "http://localhost:1/", "--data", str(data))
    assert (told.code, told.out, "tasktrail[tsa]" in told.err) == (1, "", True)
    assert not (data / "seals").exists()
    cli("seal", "--data", str(data))
    told = cli("verify", "--data", str(data), "--seals", str(data / "seals"), "--authority", str(tmp_path / "root.pem"))
    assert (told.code, "tasktrail[tsa]" in told.err) == (1, True)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("log.db-journal", 4),
        ("log.db-head", 0),
        ("views.db", 4),
        ("views.db-journal", 4),
        ("witnesses.json", 0),
        ("seals/3.tsr", 0),
    ],
)
def test_a_pipe_in_the_data_folder_is_not_waited_for(cli: Callable[..., Any], data: Path, name: str, code: int) -> None:
    for command in ("rebuild", "seal"):
        assert cli(command, "--data", str(data)).code == 0
    (data / name).unlink(missing_ok=True)
    os.mkfifo(data / name)
    shown = cli("verify", "--seals", str(data / "seals"), "--data", str(data))
    assert shown.code == code
    assert code == 0 or "is a pipe" in shown.out + shown.err


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("views.db-journal", ["list"]),
        ("views.db-journal", ["history", "1"]),
        ("log.db-journal", ["backup", "copy.db"]),
        ("tasktrail.toml", ["doctor"]),
    ],
)
def test_no_command_waits_for_a_pipe(cli: Callable[..., Any], data: Path, name: str, command: list[str]) -> None:
    assert cli("rebuild", "--data", str(data)).code == 0
    os.mkfifo(data / name)
    shown = cli(*command, "--data", str(data))
    assert shown.code == 1
    assert name in " ".join((shown.out + shown.err).split())


def test_a_folder_in_the_place_of_the_log_is_no_fault_of_the_backup(cli: Callable[..., Any], data: Path) -> None:
    (data / "log.db").unlink()
    (data / "log.db").mkdir()
    shown = cli("backup", "copy.db", "--data", str(data))
    assert shown.code == 1
    assert "log.db" in shown.err
    assert "fault of tasktrail" not in shown.err


@pytest.mark.parametrize("name", ["log.db-head", "witnesses.json"])
def test_a_small_file_that_never_ends_is_not_read_to_its_end(cli: Callable[..., Any], data: Path, name: str) -> None:
    assert cli("seal", "--data", str(data)).code == 0
    with (data / name).open("wb") as file:
        file.truncate(1 << 40)
    assert cli("verify", "--seals", str(data / "seals"), "--data", str(data)).code == 0


def test_a_file_of_another_machine_is_looked_up_by_name(cli: Callable[..., Any]) -> None:
    told = cli("provenance", "out/small one.jpg", "--url", "http://127.0.0.1:9")
    assert told.code == 2
    assert "`tasktrail list --search 'small one.jpg'`" in " ".join(told.err.split())


@pytest.mark.parametrize("number", ["0", "9" * 20, "9" * 5000])
def test_provenance_tells_that_no_task_has_such_a_number(cli: Callable[..., Any], data: Path, number: str) -> None:
    told = cli("provenance", number, "--data", str(data))
    assert (told.code, "is not the number of a task." in " ".join(told.err.split())) == (2, True)


def test_an_address_of_no_time_authority_is_refused_before_anything_is_sealed(
    cli: Callable[..., Any], data: Path
) -> None:
    told = json.loads(cli("anchor", "tsa", "ftp://a", "--data", str(data), "--json").err)
    assert (told["code"], told["field"], "time authority" in told["remedy"]) == ("invalid_value", "url", True)
    assert not (data / "seals").exists()


@pytest.mark.parametrize("put", [None, Path.touch], ids=["missing", "file"])
@pytest.mark.parametrize("command", [["verify"], ["prove", "1"]])
def test_seals_that_are_not_there_are_told_by_name_and_are_no_wrong_usage(
    cli: Callable[..., Any], data: Path, tmp_path: Path, command: list[str], put: Callable[[Path], None] | None
) -> None:
    """The command is right: perhaps the disk with the kept seals is not mounted."""
    cli("seal", "--data", str(data))
    key = str(data / "seals" / "key")
    kept = tmp_path / "kept"
    if put is not None:
        put(kept)
    for more in ([], ["--key", key]):
        told = cli(*command, "--seals", str(kept), *more, "--data", str(data), "--json")
        assert told.code == 1
        problem = json.loads(told.err)
        assert problem["code"] == "seal_unfit"
        assert problem["detail"].startswith(f"The folder {kept} cannot be read: No")
        assert "put it back" in problem["remedy"] or "put the folder of the seals back" in problem["remedy"]


def test_missing_certificates_are_told_by_name_and_are_no_wrong_usage(cli: Callable[..., Any], data: Path) -> None:
    cli("seal", "--data", str(data))
    told = cli("verify", "--data", str(data), "--seals", str(data / "seals"), "--authority", "nowhere.pem")
    assert told.code == 1
    assert "nowhere.pem has no certificates in PEM: No such file or directory" in told.err
    assert "Errno" not in told.err
    assert "Name a file with the root certificate of the time authority" in " ".join(told.err.split())
    endless = cli("verify", "--data", str(data), "--seals", str(data / "seals"), "--authority", "/dev/zero")
    assert (endless.code, "no certificates in PEM" in endless.err) == (1, True)


@pytest.mark.parametrize(
    "line",
    [
        *("list --data ''", "list --config ''", "list --token-file ''", "serve --config ''", "demo --work ''"),
        *("verify --seals ''", "verify --authority ''", "verify --key ''", "verify --witness ''"),
        *("prove 1 --seals ''", "prove 1 --key ''", "prove 1 --out ''", "prove --from ''", "prove --from 1 --to ''"),
        *("provenance ''", "provenance 1 --out ''", "witness add http://localhost --key ''"),
        *("export tasks --out ''", "log export --out ''", "log export --tiles ''"),
        *("backup ''", "backup there.db --base ''", "restore ''"),
        *("batch '' --to there/", "source add inbox '' --to there/", "submit noop --original-folder ''"),
    ],
)
def test_the_path_of_an_unset_variable_is_not_the_current_folder(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    told = cli(*shlex.split(line))
    assert (told.code, "is empty. Was a variable of the shell not set?" in " ".join(told.err.split())) == (2, True)
    assert list(tmp_path.iterdir()) == []

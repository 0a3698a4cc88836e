"""seal, prove and verify --seals on real folders, with witnesses on loopback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from histories import Journal
from scripted_witness import ScriptedWitness
from time_authority import TimeAuthority

from tasktrail.cli.session import Environment
from tasktrail.events.clock import SystemClock
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


def configured(data: Path, *witnesses: ScriptedWitness) -> str:
    tables = (f'[[witnesses]]\nurl = "{one.named.url}"\nkey = "{one.named.key}"\n' for one in witnesses)
    (data / "tasktrail.toml").write_text("".join(tables))
    return str(data)


def test_a_seal_tells_who_has_signed_it_and_verify_how_far(cli: Callable[..., Any], data: Path) -> None:
    with ScriptedWitness() as witness, ScriptedWitness(lambda _: (503, b"")) as busy:
        folder = configured(data, witness, busy)
        shown = cli("seal", "--data", folder)
        assert (shown.code, "signed by the witness w at 2023-11-14T22:13:20Z" in shown.out) == (0, True)
        assert "not signed by the witness w: it cannot sign now (HTTP 503)" in shown.err
        told = json.loads(cli("seal", "--data", folder, "--json").out)
        assert [one["outcome"] for one in told["witnesses"]] == ["signed", "absent"]
    seals = str(data / "seals")
    shown = cli("verify", "--data", folder, "--seals", seals)
    assert shown.code == 0
    assert "the witness w has signed up to 3, at 2023-11-14T22:13:20Z" in shown.out
    assert "the witness w has signed no seal that fits" in shown.out
    asked = cli("verify", "--data", folder, "--seals", seals, "--witness", witness.key, "--json")
    assert (asked.code, json.loads(asked.out)["witnessed"][0]["position"]) == (0, 3)
    (data / "busy.key").write_text(busy.key)
    asked = cli("verify", "--data", folder, "--seals", seals, "--witness", str(data / "busy.key"))
    assert (asked.code, "no seal that fits is signed by the witness w" in asked.out) == (4, True)
    assert cli("verify", "--data", folder, "--witness", witness.key).code == 2


def test_a_witness_that_has_signed_another_log_makes_the_exit_code_4(cli: Callable[..., Any], data: Path) -> None:
    with ScriptedWitness(lambda _: (409, b"100\n")) as witness:
        shown = cli("seal", "--data", configured(data, witness))
    assert (shown.code, "sealed 3 records" in shown.out) == (4, True)
    assert "it has signed 100 records, and this log has only 3" in " ".join(shown.err.split())


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
    for wrong in ((), ("1", "--from", "3"), ("1", "--to", "3")):
        assert cli("prove", "--data", folder, *wrong).code == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is the time authority")
def test_a_seal_is_stamped_when_that_is_asked_for(cli: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    folder, seals = str(data), str(data / "seals")
    with TimeAuthority(tmp_path / "tsa") as authority:
        shown = cli("seal", "--data", folder, "--tsa", authority.url)
        assert (shown.code, f"stamped by {authority.url} at 20" in " ".join(shown.out.split())) == (0, True)
        told = json.loads(cli("seal", "--data", folder, "--tsa", authority.url, "--json").out)
        assert told["stamped_at"].endswith("Z")
    gone = cli("seal", "--data", folder, "--tsa", authority.url)
    assert (gone.code, "sealed 3 records" in gone.out, "has not stamped" in gone.err) == (1, True, True)
    shown = cli("verify", "--data", folder, "--seals", seals, "--authority", str(authority.root))
    assert (shown.code, "stamped by a time authority up to 3, at 20" in shown.out) == (0, True)
    assert "stamped" not in cli("verify", "--data", folder, "--seals", seals).out
    assert cli("verify", "--data", folder, "--authority", str(authority.root)).code == 2


def test_without_the_extra_a_stamp_says_what_to_install(
    cli: Callable[..., Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    (tmp_path / "root.pem").touch()
    told = cli("seal", "--data", str(data), "--tsa", "http://localhost:1/")
    assert (told.code, "sealed 3 records" in told.out, "tasktrail[tsa]" in told.err) == (1, True, True)
    told = cli("verify", "--data", str(data), "--seals", str(data / "seals"), "--authority", str(tmp_path / "root.pem"))
    assert (told.code, "tasktrail[tsa]" in told.err) == (1, True)

"""The doctor's rules on made-up facts, and the doctor on this real machine."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from archiving import archive
from full_disks import leave_unbegun
from histories import Journal
from msgspec.structs import replace
from odd_certificates import of_ninth_version
from scripted_witness import ScriptedWitness

from tasktrail.actors.executor import Capabilities
from tasktrail.actors.machine import ControlGroup, ControlGroups, MachineLimits
from tasktrail.actors.secret import Secret
from tasktrail.config.load import load_config
from tasktrail.config.settings import Config, Smtp
from tasktrail.doctor.facts import Facts, Folder, Lack, Validity, WitnessSeen, collect_facts
from tasktrail.doctor.rules import apply_rules, examine, has_wal_reset_bug, worst
from tasktrail.events import Created, Fact
from tasktrail.events.log.files import LARGEST_SMALL
from tasktrail.events.log.lock import DataLock
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.handlers.contract import Diagnosis
from tasktrail.handlers.manifests import Claims
from tasktrail.handlers.presets import Preset
from tasktrail.handlers.process.sandbox import SandboxSupport
from tasktrail.paths import DataPaths
from tasktrail.projections.proof.witness_list import add_witness

NOW = datetime(2026, 11, 24, tzinfo=UTC)
GB = 1_000_000_000
HEALTHY_CONFIG = Config(
    workers=2,
    smtp=Smtp(host="mail.example.org", sender="a@b.org"),
    webhook_secret=Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
)


def folder(path: str, **changes: Any) -> Folder:
    return replace(Folder(path=path, exists=True, file_system="ext4", free=100 * GB), **changes)


WHOLE = SandboxSupport(landlock=7, seccomp=True, pid_namespace=True, own_proc=True)

PLAIN = Lack(types=("image_thumbnail",), packages=("PIL",), install="tasktrail[media]")
WITNESS = WitnessSeen(name="w1", url="https://witness.example")
HEALTHY = Facts(
    platform="linux",
    python=(3, 13, 1),
    sqlite=(3, 51, 3),
    data=folder("/data"),
    temp=folder("/data/tmp"),
    config_is_open=False,
    holder=None,
    capabilities=Capabilities(hard_kill_tree="a reaper per worker", kills_escaped=True, finds_orphans=True),
    sandbox_support=WHOLE,
    limits=MachineLimits(memory=8 * GB, cpus=4.0),
    types=("image_thumbnail", "video_convert"),
    handler_errors=(),
    diagnoses=(Diagnosis("media", "ok", "PyAV 18.1.0; all encoders are there"),),
    open_files=1024,
    now=NOW,
    last_recorded=NOW - timedelta(hours=1),
)


def certified(begins: int, ends: int) -> Claims:
    """Make the signer of manifests, with certificates that begin and end in that many days."""
    return Claims("", "", "ES256", begins=NOW + timedelta(days=begins), ends=NOW + timedelta(days=ends))


def valid(begins: int, ends: int) -> Validity:
    """Make the port's certificate, valid from and to that many days from now."""
    return Validity(begins=NOW + timedelta(days=begins), ends=NOW + timedelta(days=ends))


def complaints(facts: Facts, config: Config = HEALTHY_CONFIG) -> list[tuple[str, str]]:
    return [(diagnosis.name, diagnosis.level) for diagnosis in apply_rules(facts, config) if diagnosis.level != "ok"]


def test_a_healthy_machine_gets_only_good_news() -> None:
    assert complaints(HEALTHY) == []
    assert worst(list(apply_rules(HEALTHY, HEALTHY_CONFIG))) == "ok"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"python": (3, 10, 9)}, ("python", "fail")),
        ({"sqlite": (3, 36, 0)}, ("sqlite", "fail")),
        ({"sqlite": (3, 46, 1)}, ("sqlite", "warn")),
        ({"data": folder("/data", trouble="/data may not be written to", remedy="chmod")}, ("data_folder", "fail")),
        ({"data": folder("/data", open_to_others=True)}, ("data_folder", "warn")),
        ({"temp": folder("/tmp/x", trouble="/tmp/x is broken", remedy="mend it")}, ("temp_folder", "fail")),
        ({"data": folder("/data", file_system="nfs4")}, ("file_system", "fail")),
        ({"data": folder("/data", file_system="fuse.sshfs")}, ("file_system", "fail")),
        ({"data": folder("/data", file_system="CIFS")}, ("file_system", "fail")),
        ({"data": folder("/data", file_system="tmpfs")}, ("file_system", "warn")),
        ({"data": folder("/data", free=50_000_000)}, ("data_space", "fail")),
        ({"data": folder("/data", free=500_000_000)}, ("data_space", "warn")),
        ({"temp": folder("/data/tmp", free=0)}, ("temp_space", "fail")),
        ({"data": folder("/data", files=0)}, ("data_space", "fail")),
        ({"log_trouble": ("position 7 cannot be read", "Restore a backup.")}, ("log", "fail")),
        ({"holder": "pid 1", "service_trouble": ("the disk is full", "Free space.")}, ("service", "fail")),
        ({"holder": "pid 1", "service_degraded": ("no worker process is ready",)}, ("service", "warn")),
        ({"last_recorded": NOW + timedelta(minutes=1)}, ("clock", "warn")),
        (
            {"capabilities": Capabilities(hard_kill_tree="a group kill", kills_escaped=False, finds_orphans=False)},
            ("process_trees", "warn"),
        ),
        ({"sandbox_support": replace(WHOLE, landlock=0)}, ("sandbox_files", "warn")),
        ({"sandbox_support": replace(WHOLE, seccomp=False)}, ("sandbox_calls", "warn")),
        ({"sandbox_support": replace(WHOLE, own_proc=False)}, ("sandbox_processes", "warn")),
        ({"sandbox_support": replace(WHOLE, pid_namespace=False, own_proc=False)}, ("sandbox_processes", "warn")),
        ({"limits": MachineLimits(memory=8 * GB, cpus=1.5, cpu_is_limited=True)}, ("workers", "warn")),
        ({"limits": MachineLimits(memory=100_000_000, cpus=4.0)}, ("worker_memory", "warn")),
        ({"open_files": 200}, ("open_files", "warn")),
        ({"handler_errors": (("Handlers of mine cannot be loaded", "Correct it."),)}, ("handlers", "fail")),
        ({"types": ()}, ("handlers", "fail")),
        ({"preset_errors": ("preset web: video_convert has no option 'crv'",)}, ("presets", "fail")),
        ({"diagnoses": (Diagnosis("office", "warn", "LibreOffice is not there", "Install it."),)}, ("office", "warn")),
        ({"lacking": (PLAIN,)}, ("packages", "warn")),
        ({"targets_trouble": ("apprise is not installed", "Install it.")}, ("targets", "fail")),
        ({"config_is_open": True}, ("secrets", "warn")),
        ({"claims": certified(-1, 20)}, ("manifests", "warn")),
        ({"claims": certified(-9, -1)}, ("manifests", "fail")),
        ({"claims": certified(1, 40)}, ("manifests", "fail")),
        ({"certificate": valid(-75, 15)}, ("certificate", "warn")),
        ({"certificate": valid(-9, -1)}, ("certificate", "fail")),
        ({"certificate": valid(1, 40)}, ("certificate", "fail")),
        ({"certificate_trouble": ("no PEM", "Name one.")}, ("certificate", "fail")),
        ({"claims_trouble": ("c2pa_key is none", "Name one.")}, ("manifests", "fail")),
        ({"keys_trouble": ("keys.db is not there", "Put it back.")}, ("keys", "fail")),
        ({"witnesses_trouble": ("witnesses.json is cut", "Add them anew.")}, ("witnesses", "fail")),
        ({"witnesses": (WITNESS, replace(WITNESS, trouble="refused"))}, ("witnesses", "warn")),
    ],
)
def test_each_weakness_is_found_alone_and_with_a_remedy(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    facts = replace(HEALTHY, **changes)
    assert complaints(facts) == [expected]
    assert all(diagnosis.remedy for diagnosis in apply_rules(facts, HEALTHY_CONFIG) if diagnosis.level != "ok")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"smtp": Smtp()}, ("mail", "warn")),
        ({"smtp": Smtp(host="m", sender="a@b", starttls=False)}, ("mail", "warn")),
        ({"webhook_secret": Secret("")}, ("webhooks", "warn")),
        ({"max_memory": 9 * GB}, ("max_memory", "warn")),
        ({"workers": 5}, ("workers", "warn")),
    ],
)
def test_a_configuration_that_does_not_fit_is_found(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert complaints(HEALTHY, replace(HEALTHY_CONFIG, **changes)) == [expected]


@pytest.mark.parametrize("way", [{"port": 465}, {"tls": True}])
def test_mail_by_tls_from_the_first_byte_is_encrypted(way: dict[str, Any]) -> None:
    smtp = Smtp(host="m", sender="a@b", starttls=False, **way)
    assert complaints(HEALTHY, replace(HEALTHY_CONFIG, smtp=smtp)) == []


def test_sizes_are_said_in_the_units_of_the_configuration_and_of_every_other_screen() -> None:
    """`max_memory = "9GiB"` was shown as 9.7 GB, and little space as 0.1 GB."""
    facts = replace(HEALTHY, data=replace(HEALTHY.data, free=50 << 20), limits=MachineLimits(memory=8 << 30, cpus=4.0))
    told = {one.name: one.message for one in apply_rules(facts, replace(HEALTHY_CONFIG, max_memory=9 << 30))}
    assert told["data_space"].startswith("50.0 MiB free at ")
    assert told["machine"] == "the machine has 4 CPUs and 8.0 GiB of memory"
    assert told["max_memory"] == "max_memory is 9.0 GiB, more than there is"


def test_keys_of_personal_data_that_are_missing_or_do_not_fit_are_told(tmp_path: Path) -> None:
    config = replace(HEALTHY_CONFIG, personal_data="encrypted")

    def told() -> tuple[str, str]:
        facts = replace(HEALTHY, keys_trouble=collect_facts(tmp_path, config).keys_trouble)
        ((level, message),) = ((one.level, one.message) for one in apply_rules(facts, config) if one.name == "keys")
        return level, message

    sound = ("ok", "the keys of personal data can be used, or none is needed yet")
    assert told() == sound
    with closing(SqliteEventLog(tmp_path / "log.db", now=NOW, encrypted=True)) as log:
        log.append([Fact(1, 1, Created(type="noop", user_id=7), NOW, "test")], expected=0)
    assert told() == sound
    for name, words in (("master-key", "is not in"), ("keys.db", "keys.db is not there")):
        (tmp_path / name).rename(tmp_path / "kept")
        assert (told()[0], words in told()[1]) == ("fail", True)
        (tmp_path / "kept").rename(tmp_path / name)
    kept = (tmp_path / "keys.db").read_bytes()
    (tmp_path / "keys.db").write_bytes(b"no keys")
    assert (told()[0], "keys.db cannot be used" in told()[1]) == ("fail", True)
    (tmp_path / "keys.db").write_bytes(kept)
    assert told() == sound


def test_each_witness_is_called_and_a_damaged_list_is_told(tmp_path: Path) -> None:
    assert collect_facts(tmp_path, HEALTHY_CONFIG).witnesses == ()
    with ScriptedWitness(name="there") as there, ScriptedWitness(name="gone") as gone:
        for one in (there, gone):
            add_witness(tmp_path / "witnesses.json", one.named)
        gone.server.shutdown()
        gone.server.server_close()
        found = collect_facts(tmp_path, HEALTHY_CONFIG).witnesses
        assert [(one.name, one.url, bool(one.trouble)) for one in found] == [
            ("there", there.named.url, False),
            ("gone", gone.named.url, True),
        ]
        assert there.asked == [], "it is called, and asked nothing"
    (tmp_path / "witnesses.json").write_text("[{}]")
    facts = collect_facts(tmp_path, HEALTHY_CONFIG)
    assert "witnesses.json" in facts.witnesses_trouble[0]
    assert ("witnesses", "fail") in complaints(facts)


def test_certificates_that_are_valid_for_long_are_good_news(tmp_path: Path) -> None:
    told = list(apply_rules(replace(HEALTHY, claims=certified(-1, 40)), HEALTHY_CONFIG))
    assert [(one.level, "2027-01-03" in one.message) for one in told if one.name == "manifests"] == [("ok", True)]
    config = replace(HEALTHY_CONFIG, c2pa_certificate=str(tmp_path / "none.pem"), c2pa_key=str(tmp_path / "none"))
    assert ("manifests", "fail") in complaints(collect_facts(tmp_path, config), config)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_the_certificate_of_the_port_is_read_as_a_start_does(tmp_path: Path) -> None:
    told = list(apply_rules(replace(HEALTHY, certificate=valid(-70, 20)), HEALTHY_CONFIG))
    assert [(one.level, "2026-12-14" in one.message) for one in told if one.name == "certificate"] == [("ok", True)]
    made = tmp_path / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-keyout", str(made), "-out", str(tmp_path / "shown.pem")]
    subprocess.run(command, check=True, capture_output=True)
    with made.open("ab") as both:
        both.write((tmp_path / "shown.pem").read_bytes())
    subprocess.run(
        [*command[:-3], str(tmp_path / "other.key"), "-out", str(tmp_path / "other.pem"), "-days", "1"],
        check=True,
        capture_output=True,
    )
    with made.open("ab") as both:
        both.write((tmp_path / "other.pem").read_bytes())
    config = replace(HEALTHY_CONFIG, tls_certificate=str(made))
    shown = collect_facts(tmp_path, config).certificate
    assert shown is not None
    assert shown.ends - shown.begins == timedelta(days=30), "that of another in the file, which clients may do without"
    whole = made.read_text()
    for text in ("no certificate", whole.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), of_ninth_version(whole)):
        made.write_text(text)
        assert ("certificate", "fail") in complaints(collect_facts(tmp_path, config), config)


def test_witnesses_that_answer_are_good_news() -> None:
    told = list(apply_rules(replace(HEALTHY, witnesses=(WITNESS,)), HEALTHY_CONFIG))
    assert [(one.level, "w1" in one.message) for one in told if one.name == "witnesses"] == [("ok", True)]


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_the_versions_with_the_wal_reset_bug_are_known(version: tuple[int, ...], *, bug: bool) -> None:
    assert has_wal_reset_bug(version) is bug


def test_an_unlimited_number_of_open_files_is_enough() -> None:
    assert complaints(replace(HEALTHY, open_files=-1)) == []


# --- this very machine ---


def by_name(diagnoses: list[Diagnosis]) -> dict[str, Diagnosis]:
    return {diagnosis.name: diagnosis for diagnosis in diagnoses}


def test_this_machine_is_examined_without_leaving_a_trace(tmp_path: Path) -> None:
    data = tmp_path / "data"
    diagnoses = by_name(examine(data, Config()))
    assert not data.exists()
    assert diagnoses["data_folder"].message == f"{data} will be made"
    assert "image_thumbnail" in diagnoses["handlers"].message
    assert diagnoses["lock"].message == "no service runs"
    assert {diagnosis.level for diagnosis in diagnoses.values() if diagnosis.name in {"python", "media", "log"}} == {
        "ok"
    }


def test_what_several_types_say_of_this_machine_is_told_once(tmp_path: Path) -> None:
    names = [diagnosis.name for diagnosis in examine(tmp_path / "data", Config())]
    assert (names.count("media"), names.count("office"), names.count("ffmpeg")) == (3, 1, 1)


def test_a_type_that_breaks_when_it_is_asked_takes_nothing_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_checkup.py").write_text(
        "from tasktrail.handlers import TaskType\nmine = TaskType(name='mine', summary='', run=print, checkup='a:b')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    diagnoses = examine(tmp_path / "data", Config(handlers=("broken_checkup",)))
    (told,) = [diagnosis for diagnosis in diagnoses if diagnosis.level == "fail"]
    assert told.message.startswith("mine cannot say what it needs from this machine: ModuleNotFoundError")


def test_a_standby_that_waits_for_its_turn_is_well(tmp_path: Path) -> None:
    """Nothing is wrong with it, and a service cannot be started instead: another one has the log."""
    with DataLock(tmp_path / "lock", "standby"):
        diagnoses = by_name(examine(tmp_path, Config()))
        said = DataPaths(tmp_path).no_service()

    assert diagnoses["lock"].message.startswith(f"a standby waits: pid {os.getpid()} ")
    assert "service" not in diagnoses
    assert f"A standby (pid {os.getpid()}) waits on {tmp_path}" in said.message
    assert "service that has the log" in said.advice


def test_the_limits_of_a_running_service_count_and_not_those_of_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("1048576")
    of_service = ControlGroups(memory=ControlGroup(2, (tmp_path,)))
    groups = {None: ControlGroups(), os.getpid(): of_service}
    monkeypatch.setattr("tasktrail.doctor.facts.find_groups", lambda process: groups[process])

    with DataLock(tmp_path / "lock"):
        diagnoses = by_name(examine(tmp_path, Config()))

    assert diagnoses["machine"].message.endswith("and 1.0 MiB of memory")
    assert "allows" not in by_name(examine(tmp_path, Config()))["machine"].message


def test_a_data_folder_at_work_is_examined_without_disturbing_it(tmp_path: Path) -> None:
    with DataLock(tmp_path / "lock"):
        log = SqliteEventLog(tmp_path / "log.db", now=NOW)
        ahead = datetime.now(UTC) + timedelta(days=1)
        log.append([Fact(1, 1, Created(type="noop"), ahead, life=1)], expected=0)
        diagnoses = by_name(examine(tmp_path, Config()))
        log.close()
    assert diagnoses["lock"].message.startswith(f"a service runs: pid {os.getpid()} on ")
    assert diagnoses["log"].message == "can be read"
    assert diagnoses["clock"].level == "warn"
    assert "If the clock is right" in diagnoses["clock"].remedy  # as after the clock was corrected


def test_an_archive_that_is_missing_is_told(tmp_path: Path) -> None:
    with closing(SqliteEventLog(tmp_path / "log.db", now=NOW)) as log:
        journal = Journal(log)
        for _ in range(4):
            journal.create()
        archive(journal, 2)
        archive(journal, 4)
    assert by_name(examine(tmp_path, Config()))["log"].level == "ok"
    first, second = sorted((tmp_path / "archive").iterdir())
    second.unlink()
    told = by_name(examine(tmp_path, Config()))["log"]
    assert (told.level, str(second) in told.message, "from a backup" in told.remedy) == ("fail", True, True)
    assert first.exists()


@pytest.mark.parametrize("size", ["no byte", "no table", "no entry"])
def test_what_a_first_start_on_a_full_disk_leaves_is_no_damage(tmp_path: Path, size: str) -> None:
    """Nothing was ever recorded, so there is no backup to restore: the next start begins the log."""
    leave_unbegun(tmp_path / "log.db", size)
    diagnosis = by_name(examine(tmp_path, Config()))["log"]
    assert (diagnosis.level, diagnosis.message) == ("ok", "empty, or none yet")


def test_a_log_that_has_lost_its_tables_is_found(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log.db")) as conn:
        conn.executescript("CREATE TABLE filling (x); INSERT INTO filling VALUES (zeroblob(20000)); DROP TABLE filling")
    assert by_name(examine(tmp_path, Config()))["log"].level == "fail"


def test_a_log_whose_tables_were_dropped_is_found(tmp_path: Path) -> None:
    SqliteEventLog(tmp_path / "log.db", now=NOW).close()
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as conn:
        for table in ("archived_kinds", "archived_tasks", "archives", "answers", "epochs", "events"):
            conn.execute(f"DROP TABLE {table}")
        conn.execute("VACUUM")
    assert by_name(examine(tmp_path, Config()))["log"].level == "fail"


def test_a_log_that_is_no_log_is_found(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"this is no database" * 100)
    assert by_name(examine(tmp_path, Config()))["log"].level == "fail"


def test_a_log_whose_schema_was_changed_is_found(tmp_path: Path) -> None:
    SqliteEventLog(tmp_path / "log.db", now=NOW).close()
    with closing(sqlite3.connect(tmp_path / "log.db")) as conn:
        conn.execute("DROP TRIGGER events_are_not_changed")
    diagnosis = by_name(examine(tmp_path, Config()))["log"]
    assert (diagnosis.level, "trigger events_are_not_changed is missing" in diagnosis.message) == ("fail", True)


def test_a_configuration_that_cannot_be_used_is_a_diagnosis(tmp_path: Path) -> None:
    (tmp_path / "tasktrail.toml").write_text("workerz = 3\n")
    diagnosis = by_name(examine(tmp_path))["configuration"]
    assert (diagnosis.level, "did you mean workers" in diagnosis.message) == ("fail", True)


def test_a_sound_configuration_is_good_news(tmp_path: Path) -> None:
    (tmp_path / "tasktrail.toml").write_text("workers = 1\n")
    assert by_name(examine(tmp_path))["configuration"].level == "ok"


@pytest.mark.parametrize(("url", "level"), [("json://a.test/canary-7", "ok"), ("nope://canary-7", "fail")])
def test_targets_are_looked_at_without_being_shown(tmp_path: Path, url: str, level: str) -> None:
    (tmp_path / "tasktrail.toml").write_text(f'[apprise]\nteam = "{url}"\n')
    found = by_name(examine(tmp_path))
    assert found["targets"].level == level
    assert "team" in found["targets"].message
    assert not any("canary-7" in diagnosis.message + diagnosis.remedy for diagnosis in found.values())


@pytest.mark.parametrize(
    ("text", "mode", "is_open"),
    [
        ('webhook_secret = "x"\n', 0o644, True),
        ('[smtp]\npassword = "x"\n', 0o640, True),
        ('[apprise]\nteam = "x://y"\n', 0o640, True),
        ("[apprise]\n", 0o640, False),
        ('webhook_secret = "x"\n', 0o600, False),
        ("workers = 1\n", 0o644, False),
        ("this is = = no toml", 0o644, False),
    ],
)
def test_secrets_in_a_file_that_others_can_read_are_found(
    tmp_path: Path, text: str, mode: int, *, is_open: bool
) -> None:
    file = tmp_path / "tasktrail.toml"
    file.write_text(text)
    file.chmod(mode)
    assert collect_facts(tmp_path, Config()).config_is_open is is_open
    assert collect_facts(tmp_path / "data", Config(), file).config_is_open is is_open


def test_secrets_in_a_large_file_are_found(tmp_path: Path) -> None:
    """A file that is named is read whatever its size, so its secrets are in use."""
    file = tmp_path / "large.toml"
    file.write_text("#" * LARGEST_SMALL + '\n[smtp]\nhost = "mail"\nsender = "a@b"\nuser = "a"\npassword = "x"\n')
    file.chmod(0o644)
    assert collect_facts(tmp_path / "data", load_config(tmp_path, file=file, environment={}), file).config_is_open


def test_a_file_system_that_is_mounted_read_only_is_no_matter_of_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = os.statvfs

    def read_only(path: Any) -> os.statvfs_result:
        found = list(of(path))
        found[8] |= os.ST_RDONLY
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", read_only)
    found = by_name(examine(tmp_path, Config()))["data_folder"]
    assert (found.level, "mounted read-only" in found.message) == ("fail", True)
    assert "Mount it for writing" in found.remedy


def test_a_file_where_the_folder_should_be_is_found(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert by_name(examine(tmp_path / "data", Config()))["data_folder"].level == "fail"


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        ("retention", "type:vidoe_convert=7d", "completed type:video_convert=7d"),
        ("type_limits", "vidoe_convert=2", "video_convert=2"),
        ("cpu_limits", "vidoe_convert=60", "video_convert=60"),
        ("windows", "vidoe_convert=22-06", "*=22-06"),
        ("rates", "type:vidoe_convert=1/m", "type:*=1/m"),
    ],
)
def test_a_misspelt_type_in_the_configuration_is_found(key: str, wrong: str, right: str) -> None:
    """Such a rule fits no task, and nothing else would ever tell."""
    found = list(apply_rules(HEALTHY, replace(HEALTHY_CONFIG, **{key: (right, wrong)})))
    (told,) = [one for one in found if one.level != "ok"]
    assert (told.name, told.level) == ("type_names", "warn")
    assert told.message == f"{key} names the type vidoe_convert, which no handler has; did you mean video_convert?"


def test_a_handler_module_that_is_not_there_is_found(tmp_path: Path) -> None:
    facts = collect_facts(tmp_path, Config(handlers=("no_such_module_anywhere",)))
    assert len(facts.handler_errors) == 1
    assert "no_such_module_anywhere" in facts.handler_errors[0][0]
    assert "PYTHONPATH" in facts.handler_errors[0][1]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"type": "video_convert", "options": {"crf": 28}}, ()),
        ({"type": "video_part"}, ()),  # other tests may add to its output
        ({"type": "video_part", "options": {"prt": 1}}, ("video_part has no option 'prt'; did you mean 'part'?",)),
        (
            {"type": "video_convert", "options": {"crv": 28}},
            ("video_convert has no option 'crv'; did you mean 'crf'?",),
        ),
        (
            {"type": "video_convert", "options": {"crf": 99}},
            ("option crf of video_convert has to be a whole number, at most 63",),
        ),
        ({"type": "video_convrt"}, ("There is no task type 'video_convrt'; did you mean 'video_convert'?",)),
    ],
)
def test_a_preset_that_no_task_can_have_is_found(fields: dict[str, Any], told: tuple[str, ...], tmp_path: Path) -> None:
    facts = collect_facts(tmp_path, Config(presets=(Preset(name="mine", **fields),)))
    assert facts.preset_errors == tuple(f"preset mine: {each}" for each in told)


def test_examining_gives_back_every_descriptor(tmp_path: Path) -> None:
    examine(tmp_path, Config())
    before = psutil.Process().num_fds()
    examine(tmp_path, Config())
    assert psutil.Process().num_fds() <= before  # fewer: the garbage collector ran


def test_mail_and_signatures_are_not_judged_by_a_configuration_that_nobody_could_read(tmp_path: Path) -> None:
    """It said that there was no mail server, and that webhooks were unsigned, with both in the file."""
    (tmp_path / "tasktrail.toml").write_text('workers = "many"\n[smtp]\nhost = "localhost"\nsender = "a@b.example"\n')
    names = {diagnosis.name for diagnosis in examine(tmp_path)}
    assert {"configuration", "handlers"} <= names
    assert not names & {"mail", "webhooks"}


def test_handlers_that_were_not_looked_at_are_not_called_good(tmp_path: Path) -> None:
    (tmp_path / "tasktrail.toml").write_text('handlers = ["gone_module"\n')
    (found,) = [diagnosis for diagnosis in examine(tmp_path) if diagnosis.name == "handlers"]
    assert found.level == "warn"
    assert "were not looked at" in found.message
    assert "image_convert" in found.message

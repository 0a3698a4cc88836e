"""The settings read from file and environment, and the refusal of wrong values."""

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.actors.core.limits import UNLIMITED
from tasktrail.actors.secret import Secret
from tasktrail.api.service import TaskService
from tasktrail.cli.command import everywhere
from tasktrail.config.load import Reloaded, checked, keys, load_config, with_live_keys
from tasktrail.config.reference import reference
from tasktrail.config.settings import Config, Smtp, parse_duration, parse_size, usable_cpus
from tasktrail.events.errors import ConfigurationError
from tasktrail.testing import inline_service

ROOT = Path(__file__).parent.parent.parent
GIB = 1024**3
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def load(tmp_path: Path, text: str = "", **environment: str) -> Config:
    (tmp_path / "tasktrail.toml").write_text(text)
    return load_config(tmp_path, environment={f"TASKTRAIL_{name}": value for name, value in environment.items()})


def test_without_file_and_environment_everything_has_its_default(tmp_path: Path) -> None:
    config = load_config(tmp_path, environment={"HOME": "/root", "TASKTRAIL_DATA": "/data", "TASKTRAIL_TOKEN": "x"})
    assert config == Config()
    assert config.workers == usable_cpus()


def test_the_variables_of_the_command_line_are_no_keys(tmp_path: Path) -> None:
    variables = [option.envvar for option in everywhere(root=True) if isinstance(option.envvar, str)]
    assert "TASKTRAIL_DATA" in variables
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| .*`(TASKTRAIL_[A-Z_]+)`", page, flags=re.MULTILINE)
    assert "TASKTRAIL_UNENCRYPTED" in listed
    variables += listed
    assert load_config(tmp_path, environment=dict.fromkeys(variables, "x")) == Config()


def test_the_file_is_read_with_units_and_tables(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        'workers = 3\nmax_memory = "4GiB"\nmax_temp_size = 1_000\ncleanup_after = "2h"\nmax_cpu = 80\n'
        'handlers = ["mine.video"]\ninput_roots = ["/srv/in"]\ntemp_dir = "/scratch"\n'
        '[smtp]\nhost = "mail.example.org"\nsender = "a@example.org"\nstarttls = false\n',
    )
    assert config.max_memory == 4 * 1024**3
    assert config.max_temp_size == 1000
    assert config.cleanup_after == 7200.0
    assert (config.max_cpu, config.handlers, config.input_roots) == (80.0, ("mine.video",), ("/srv/in",))
    assert config.smtp == Smtp(host="mail.example.org", sender="a@example.org", starttls=False)
    assert config.temp_dir == "/scratch"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, 'workers = 3\nport = 80\nallow_endpoints = ["a"]', WORKERS="5", ALLOW_ENDPOINTS="b, c:8080")
    assert (config.workers, config.port, config.allow_endpoints) == (5, 80, ("b", "c:8080"))


def test_the_environment_reaches_into_tables_and_reads_text(tmp_path: Path) -> None:
    config = load(
        tmp_path, '[smtp]\nhost = "m"\nsender = "a@b.c"\n', SMTP_STARTTLS="false", SMTP_PORT="25", GRACE_PERIOD="250ms"
    )
    assert (config.smtp.starttls, config.smtp.port, config.grace_period) == (False, 25, 0.25)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"other\.toml does not exist"):
        load_config(tmp_path, file=tmp_path / "other.toml", environment={})


def test_a_pipe_in_place_of_the_file_holds_nothing_up_unless_it_was_named(tmp_path: Path) -> None:
    """What lies in a data folder may be laid there by its owner for root; `--config <(...)` is meant."""
    pipe = tmp_path / "tasktrail.toml"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationError, match="cannot be read: it is no file"):
        load_config(tmp_path, environment={})
    pipe.unlink()
    pipe.symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError, match="cannot be read: it is no file"):
        load_config(tmp_path, environment={})
    reading, writing = os.pipe()
    os.write(writing, b"workers = 3")
    os.close(writing)
    try:
        assert load_config(tmp_path, file=Path(f"/dev/fd/{reading}"), environment={}).workers == 3
    finally:
        os.close(reading)


def test_a_file_that_cannot_be_read_is_not_to_be_corrected(tmp_path: Path) -> None:
    (tmp_path / "tasktrail.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"tasktrail\.toml cannot be read: it is no file") as refused:
        load_config(tmp_path, environment={})
    assert "may read it" in refused.value.advice


def test_a_file_that_is_no_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tasktrail\.toml cannot be read: .*line 2"):
        load(tmp_path, "workers = 1\nworkers = = 2\n")


def test_a_file_with_a_byte_order_mark_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tasktrail.toml").write_text("workers = 1\n", encoding="utf-8-sig")
    with pytest.raises(ConfigurationError, match="begins with the byte order mark of UTF-8") as refused:
        load_config(tmp_path, environment={})
    assert refused.value.advice == "Save it as UTF-8 without a byte order mark."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("worker = 1", "no key worker .*; did you mean workers"),
        ("[smtp]\nworkers = 2", r"no key smtp\.workers .*workers stands above all tables"),
        ("[smtp]\nhots = 'm'", r"no key smtp\.hots .*; did you mean smtp\.host"),
        ("zzzzzz = 1", r"no key zzzzzz \(in [^;]*\)\. "),
        ("smtp = 'm'", r"smtp .* is a table"),
        ("[workers]\na = 1", r"no key workers\.a"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        load(tmp_path, text)


def test_a_misspelt_variable_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"TASKTRAIL_MAX_MEM .*did you mean TASKTRAIL_MAX_MEMORY"):
        load(tmp_path, MAX_MEM="1GiB")


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("workers = 0", "1 to 1024"),
        ("workers = true", "1 to 1024"),
        ('workers = "4"', "1 to 1024"),
        ("workers = 2.5", "1 to 1024"),
        ('max_memory = "4 gallons"', '"4GiB"'),
        ("max_memory = -1", '"4GiB"'),
        ('cleanup_after = "soon"', '"2h"'),
        ("cleanup_after = inf", '"2h"'),
        ("max_cpu = nan", "in percent"),
        ("max_cpu = 101", "in percent"),
        ('pass_environment = ["MY-KEY"]', "a list of names"),
        ('pass_environment = ["TASKTRAIL_TOKEN"]', "a list of names"),
        ('temp_dir = "relative/path"', "an absolute path"),
        ('input_roots = ["/ok", "not/ok"]', "a list of absolute paths"),
        ('input_roots = "/a"', "a list of absolute paths"),
        ("port = 70000", "0 to 65535"),
        ('log_level = "loud"', "debug, info, warning or error"),
        ('log_format = "xml"', "console or json"),
        ('allow_endpoints = ["http://localhost"]', "`host` or `host:port`"),
        ('allow_endpoints = ["localhost:0"]', "`host` or `host:port`"),
        ("handlers = [1]", "a list of module names"),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_place_and_what_is_allowed(
    tmp_path: Path, line: str, allowed: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, line)
    key = line.split(" = ", maxsplit=1)[0]
    assert caught.value.field == key
    assert caught.value.message.startswith(f"{key} in {tmp_path / 'tasktrail.toml'} cannot be ")
    assert allowed in caught.value.message


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="workers in TASKTRAIL_WORKERS cannot be 'many': allowed is 1 to 1024"):
        load(tmp_path, WORKERS="many")


@pytest.mark.parametrize(
    "value", ["plain", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!", "whsec_" + "QUFB" * 22, "whsec_é"]
)
def test_a_weak_webhook_secret_is_refused_without_being_shown(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, WEBHOOK_SECRET=value)
    assert "whsec_` and the base64 of 24 to 64" in str(caught.value)
    assert value == "whsec_" or value not in str(caught.value)


def test_several_webhook_secrets_can_be_in_use_while_they_are_changed(tmp_path: Path) -> None:
    other = "whsec_" + "QUFB" * 8
    assert load(tmp_path, WEBHOOK_SECRET=f"{other} {SECRET}").webhook_secret.reveal() == f"{other} {SECRET}"
    for value in (f"{other} plain", " ".join([SECRET] * 5)):
        with pytest.raises(ConfigurationError) as caught:
            load(tmp_path, WEBHOOK_SECRET=value)
        assert "up to 4 of them" in str(caught.value)
        assert other not in str(caught.value)


def test_secrets_are_shown_nowhere(tmp_path: Path) -> None:
    config = load(tmp_path, WEBHOOK_SECRET=SECRET, SMTP_USER="u", SMTP_PASSWORD="canary-7")
    assert (config.webhook_secret.reveal(), config.smtp.password.reveal()) == (SECRET, "canary-7")
    for shown in (repr(config), str(config), f"{config.smtp.password}", f"{config.webhook_secret!s}"):
        assert SECRET not in shown
        assert "canary-7" not in shown
    with pytest.raises(TypeError):
        msgspec.json.encode(config)
    with pytest.raises(TypeError):
        json.dumps(config.smtp.password)


def test_targets_have_names_of_the_operators_own_in_file_and_environment(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[apprise]\nteam = "json://a/canary-7"\nops = "json://b"',
        APPRISE_OPS="json://c",
        APPRISE_B2_X="x://d",
    )
    assert {name: url.reveal() for name, url in config.apprise.items()} == {
        "team": "json://a/canary-7",
        "ops": "json://c",
        "b2_x": "x://d",
    }
    assert "canary-7" not in repr(config)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[apprise]\nTeam = "json://canary-7"', "apprise.Team"),
        ('[apprise]\n"the team" = "json://canary-7"', "apprise.the team"),
        ('[apprise]\nteam = "canary-7"', "apprise.team"),
        ('[apprise]\nteam = ["json://canary-7"]', "apprise.team"),
        ('[apprise.team]\nurl = "json://canary-7"', "apprise.team"),
        ('apprise = "json://canary-7"', "apprise"),
    ],
)
def test_a_target_that_is_written_wrongly_is_refused_and_not_shown(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, text)
    assert refused.value.field == field
    assert "canary-7" not in str(refused.value)


def test_the_sender_is_one_mail_address(tmp_path: Path) -> None:
    assert load(tmp_path, '[smtp]\nsender = "Tasks <a@b.org>"').smtp.sender == "Tasks <a@b.org>"
    with pytest.raises(ConfigurationError, match=r"smtp\.sender .* cannot be 'a@b, c@d': allowed is one mail address"):
        load(tmp_path, '[smtp]\nsender = "a@b, c@d"')


@pytest.mark.parametrize(("smtp", "missing"), [('host = "m"', "smtp.sender"), ('user = "u"', "smtp.password")])
def test_what_only_makes_sense_together_is_asked_for_together(tmp_path: Path, smtp: str, missing: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, f"[smtp]\n{smtp}\n")
    assert caught.value.field == missing


def test_limits_follow_the_workers_unless_they_are_set(tmp_path: Path) -> None:
    free = load(tmp_path, "workers = 6").limits()
    assert (free.max_concurrent, free.max_memory, free.max_temp_size) == (6, UNLIMITED, UNLIMITED)
    bound = load(tmp_path, 'workers = 6\nmax_concurrent = 2\nmax_memory = "1MB"\nmax_crashes = 9').limits()
    assert (bound.max_concurrent, bound.max_memory, bound.max_crashes) == (2, 1_000_000, 9)


@given(st.integers(0, 10**15))
def test_a_plain_number_is_bytes_and_seconds(number: int) -> None:
    assert parse_size(str(number)) == number
    assert parse_duration(f"{number}s") == number


@pytest.mark.parametrize(
    ("text", "size"), [("1KiB", 1024), ("1kb", 1000), ("1.5 MiB", 1572864), ("2TB", 2 * 10**12), ("7 B", 7)]
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "1 2", "-1", "1e3", "1XB", "1GiB!", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no number with a known unit"):
        parse_size(text)


def test_every_key_says_what_it_means_and_what_is_allowed() -> None:
    assert [key.name for key in keys() if not key.rule.says.endswith(".") or not key.rule.allowed] == []


def test_a_secret_equals_only_the_same_secret() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))


def test_the_reference_page_is_what_the_keys_say() -> None:
    """Renew it with `python -m tasktrail.config.reference > docs/reference/configuration.md`."""
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference()


@pytest.mark.parametrize(
    ("text", "disk", "marks"),
    [
        ("", 250 * GIB, (GIB, 2 * GIB)),
        ("", 50 * GIB, (GIB // 2, GIB)),
        ("", 0, (0, 0)),
        ("temp_low = 0", 250 * GIB, (0, 0)),
        ("temp_low = 5", 250 * GIB, (5, 10)),
        ("temp_low = 5\ntemp_high = 5", 250 * GIB, (5, 5)),
        ("temp_high = 5", 250 * GIB, (5, 5)),
        ('temp_high = "4GiB"', 250 * GIB, (GIB, 4 * GIB)),
    ],
)
def test_a_share_of_the_disk_stays_free_unless_it_is_set(
    tmp_path: Path, text: str, disk: int, marks: tuple[int, int]
) -> None:
    """A small disk must be usable, and a large one need not stay half empty."""
    limits = load(tmp_path, text).limits(disk)
    assert (limits.temp_low, limits.temp_high) == marks


def test_the_high_mark_of_the_disk_is_not_below_the_low_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"temp_high \(1 bytes\) is below temp_low \(2 bytes\)") as refused:
        load(tmp_path, "temp_low = 2", TEMP_HIGH="1")
    assert refused.value.field == "temp_high"


def test_all_that_is_wrong_in_file_and_environment_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, 'workers = 0\nworker = 1\n[smtp]\nport = "x"\n', MAX_CPU="500")
    assert caught.value.field == "workers, worker, smtp.port, max_cpu"
    for said in (
        "cannot be 0: allowed is 1 to 1024",
        "did you mean workers",
        "1 to 65535",
        "TASKTRAIL_MAX_CPU cannot be",
    ):
        assert said in caught.value.message


def test_two_that_do_not_fit_each_other_are_told_with_two_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, 'temp_low = 10\ntemp_high = 5\n[smtp]\nhost = "m"\n')
    assert caught.value.field == "smtp.sender, temp_high"


WRONG_IN_PYTHON: list[tuple[dict[str, Any], str]] = [
    ({"workers": -3, "max_cpu": 500, "log_level": "loud", "port": -1}, "workers, max_cpu, port, log_level"),
    ({"workers": "x"}, "workers"),
    ({"workers": True}, "workers"),
    ({"handlers": "mine"}, "handlers"),
    ({"max_memory": "4 gallons"}, "max_memory"),
    ({"smtp": Smtp(host="m", port=0)}, "smtp.port"),
    ({"smtp": "m"}, "smtp"),
    ({"smtp": Smtp(host="m")}, "smtp.sender"),
    ({"apprise": {"No Name": Secret("x")}}, "apprise.No Name"),
    ({"webhook_secret": "plain"}, "webhook_secret"),
    ({"temp_low": 10, "temp_high": 5}, "temp_high"),
]


@pytest.mark.parametrize(("given", "fields"), WRONG_IN_PYTHON)
def test_one_made_in_python_is_refused_as_the_file_would_be(tmp_path: Path, given: dict[str, Any], fields: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskService.open(tmp_path / "data", config=Config(**given))
    assert caught.value.field == fields
    with pytest.raises(ConfigurationError), inline_service(tmp_path / "data", config=Config(**given)):
        pass
    assert not (tmp_path / "data").exists(), "nothing was started"


def test_what_is_no_config_is_refused(tmp_path: Path) -> None:
    for wrong in ({}, {"workers": 1}, "tasktrail.toml"):
        with pytest.raises(ConfigurationError, match="has to be a Config"):
            TaskService.open(tmp_path / "data", config=wrong)  # type: ignore[arg-type]  # that is the point


def test_one_made_in_python_may_use_texts_paths_and_lists_as_the_file_does(tmp_path: Path) -> None:
    made: dict[str, Any] = {
        "max_memory": "4GiB",
        "cleanup_after": "2h",
        "temp_dir": tmp_path,
        "input_roots": [tmp_path],
    }
    config = checked(Config(**made))
    assert (config.max_memory, config.cleanup_after) == (4 * GIB, 7200.0)
    assert (config.temp_dir, config.input_roots) == (str(tmp_path), (str(tmp_path),))


def test_one_that_was_read_stays_as_it_is(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        'temp_low = "1MB"\ntype_limits = ["a=1"]\n[smtp]\nhost = "m"\nsender = "a@b.c"\npassword = "p"\n'
        '[apprise]\nteam = "json://localhost"\n[[retry_rules]]\nname = "mine"\nretryable = true\ncontains = "x"\n',
        WEBHOOK_SECRET=SECRET,
    )
    assert checked(config) == config
    assert checked(Config()) == Config()


def test_a_running_service_takes_what_can_change_and_keeps_the_rest() -> None:
    old = Config(workers=2, max_memory=GIB, apprise={"team": Secret("slack://a")}, smtp=Smtp(host="a", sender="a@b.c"))
    new = Config(
        workers=3, max_memory=2 * GIB, apprise={"all": Secret("slack://b")}, smtp=Smtp(host="b", sender="a@b.c")
    )

    held, reloaded = with_live_keys(old, new)

    assert held == replace(new, workers=2)
    assert reloaded == Reloaded(taken=("max_memory", "smtp.host", "apprise.team", "apprise.all"), waiting=("workers",))
    assert with_live_keys(held, held) == (held, Reloaded())

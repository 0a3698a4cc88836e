"""The configuration: what can be set, what it means, what is allowed. `load_config` reads it from file and environment.

Each key carries its description, from which docs/reference/configuration.md and the error messages are made. First come
the readers and checks of single values; each raises ValueError for a text that it does not understand.
"""

import base64
import binascii
import os
import re
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec

from ..actors.secret import Secret
from ..events.commands import RateName, RateText
from ..events.errors import InvalidValue
from ..events.log.address import check_address as check_log_address
from ..events.retry import RetryRule
from ..events.state import FINISHED
from ..events.system_events import RetentionRule
from ..handlers.presets import Preset

if TYPE_CHECKING:
    from ..actors.core.limits import Limits
    from ..actors.core.resources import Ceiling
    from ..handlers.contract import Room
    from ..handlers.elsewhere import Storage
    from ..handlers.process.sandbox import Sandbox


_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_BARE_NUMBER = re.compile(r"[\d.]+")
_BINARY = {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)}
_DECIMAL = {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)}
_BYTES = {"": 1, "b": 1, **_DECIMAL, **_BINARY}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "y": 365 * 86400.0}
_WEBHOOK_PREFIX = "whsec_"
_MOST_SECRETS = 4


def parse_size(text: str) -> int:
    """`4GiB`, `500 MB`, `1024` → bytes. KB, MB, … count in thousands, KiB, MiB, … in 1024."""
    return int(_scaled(text, dict(_BYTES)))


def parse_duration(text: str) -> float:
    """`30s`, `2h`, `1.5d`, `1y`, `90` → seconds."""
    return _scaled(text, _SECONDS)


def parse_seconds(text: str) -> float:
    """A number of seconds or a duration → seconds, as people type them into fields."""
    try:
        return float(text)
    except ValueError:
        return parse_duration(text)


def parse_age(text: str) -> float:
    """The same for ages in rules that forget or archive. A unit is required: whoever writes `90` may mean days."""
    if _BARE_NUMBER.fullmatch(text.strip()):
        raise ValueError(f"a number without a unit: {text}")
    return parse_duration(text)


def _scaled(text: str, units: dict[str, float]) -> float:
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"no number with a known unit: {text}")
    return float(match[1]) * units[match[2].lower()]


def parse_rules(text: str) -> Any:
    """Read a JSON array of retry rules or presets, as the environment holds them."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError("not JSON") from error


def check_webhook_secrets(text: str) -> None:
    """One webhook secret; while it is being changed several, separated by spaces, the newest first."""
    secrets = text.split()
    if len(secrets) > _MOST_SECRETS:
        raise ValueError(f"at most {_MOST_SECRETS} webhook secrets can be in use")
    for secret in secrets:
        _check_webhook_secret(secret)


def _check_webhook_secret(text: str) -> None:
    """`whsec_` and the base64 of 24 to 64 bytes. Unchecked, any other text would serve as a weak key."""
    if not text.startswith(_WEBHOOK_PREFIX):
        raise ValueError("a webhook secret begins with whsec_")
    try:
        key = base64.b64decode(text.removeprefix(_WEBHOOK_PREFIX), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("a webhook secret is base64") from error
    if not 24 <= len(key) <= 64:  # noqa: PLR2004 - the bounds of Standard Webhooks
        raise ValueError("a webhook secret has 24 to 64 bytes")


def check_limit(text: str) -> None:
    """`name=number`, the number from 1."""
    name, _, number = text.rpartition("=")
    if not name or not re.fullmatch(r"[1-9]\d{0,6}", number):
        raise ValueError(f"neither name=number nor a number from 1: {text}")


def parse_limits(texts: Sequence[str]) -> dict[str, int]:
    """Name → number, from texts that have passed `check_limit`."""
    return {name: int(number) for name, _, number in (text.rpartition("=") for text in texts)}


def check_node_label(text: str) -> None:
    """`key=value`."""
    if not re.fullmatch("[^=,]+=[^,]*", text):
        raise ValueError(f"not key=value, or with a comma in it: {text}")


def check_rate(text: str) -> None:
    """`type:name=10/m`; also with `user:` or `label:`."""
    name, _, rate = text.rpartition("=")
    try:
        msgspec.convert({name: rate}, dict[RateName, RateText])
    except msgspec.ValidationError:
        raise ValueError(f"neither a name such as type:video_convert nor a rate such as 10/m: {text}") from None


def check_window(text: str) -> None:
    """`type=22-06` or `type=mon-fri 8:30-18`."""
    from ..actors.core.windows import window_of

    name, _, window = text.rpartition("=")
    try:
        window_of(window)
    except InvalidValue as error:
        raise ValueError(f"{error.message}. {error.advice}") from None
    if not name:
        raise ValueError(f"no type=window: {text}")


def parse_windows(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Type → its windows, from texts that have passed `check_window`."""
    pairs = [(name, window) for name, _, window in (text.rpartition("=") for text in texts)]
    return {name: tuple(window for other, window in pairs if other == name) for name, _ in pairs}


_NEVER = "never"


def retention_rule(text: str) -> RetentionRule:
    """`completed=90d`, `failed type:video_convert=1y`, `user:7=never`. Raises ValueError."""
    whose, _, age = text.rpartition("=")
    fields: dict[str, Any] = {"older_than": None if age.strip() == _NEVER else parse_age(age)}
    words = whose.split()
    for word in words if words != ["*"] else ():
        fields = {**fields, **_status_type_or_user(word)}
    if len(fields) <= len(words) - (words == ["*"]) or not words:
        raise ValueError(f"no tasks are named, or one kind of them twice: {text}")
    return RetentionRule(**fields)


def _status_type_or_user(word: str) -> dict[str, Any]:
    kind, _, name = word.partition(":")
    if word in FINISHED:
        return {"status": word}
    if kind == "type" and name:
        return {"type": name}
    if kind == "user" and re.fullmatch(r"0|[1-9]\d{0,15}", name):
        return {"user_id": int(name)}
    raise ValueError(f"neither a status nor a type nor a user: {word}")


def check_retention(text: str) -> None:
    """A rule of retention."""
    retention_rule(text)


def check_age(text: str) -> None:
    """An empty text, or an age with its unit."""
    if text:
        parse_age(text)


def check_zone(text: str) -> None:
    """A time zone that this machine knows."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(text)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"there is no time zone {text}") from None


def check_absolute(text: str) -> None:
    """An absolute path without NUL."""
    if not PurePath(text).is_absolute() or "\0" in text:
        raise ValueError(f"not an absolute path: {text}")


def check_place(text: str) -> None:
    """An absolute path, or an address with which addresses of files begin."""
    from ..events.errors import InvalidPath
    from ..handlers.urls import is_url, parsed

    if not is_url(text):
        check_absolute(text)
        return
    try:
        parsed(text)
    except InvalidPath as error:
        raise ValueError(error.message) from None


def check_written_place(text: str) -> None:
    """The same for outputs: an address must be writable."""
    from ..handlers.urls import WRITABLE, is_url

    check_place(text)
    if is_url(text) and not text.startswith(tuple(f"{scheme}://" for scheme in WRITABLE)):
        raise ValueError(f"nothing can be written there: {text}")


def check_endpoint(text: str) -> None:
    """`host` or `host:port`, an IPv6 address in brackets; no scheme, no path."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s/@:\[\]?#]+)(?::(\d{1,5}))?", text)
    if match is None or (match[2] is not None and not 1 <= int(match[2]) <= 65535):  # noqa: PLR2004 - ports
        raise ValueError(f"neither host nor host:port: {text}")


def check_address_of_head(text: str) -> None:
    """An empty text, or `host:port`."""
    if text:
        check_endpoint(text)
        if not re.search(r":\d+$", text):
            raise ValueError(f"no port: {text}")


def check_host(text: str) -> None:
    """A name, or an IPv6 address in brackets; no port, no scheme, no path."""
    if not re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", text):
        raise ValueError(f"no host name: {text}")


def check_variable(text: str) -> None:
    """The name of an environment variable, except those of tasktrail itself, such as its token."""
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError(f"no name of a variable: {text}")
    if text.startswith("TASKTRAIL_"):
        raise ValueError(f"{text} is for tasktrail itself")


def check_network(text: str) -> None:
    """An address or a network."""
    ip_network(text, strict=False)


def check_target(text: str) -> None:
    """An address with a scheme. Apprise itself checks it before the service starts."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ValueError("no address")


def check_address(text: str) -> None:
    """`http://` or `https://` and a host; without a name and password, which would be shown."""
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", text):
        raise ValueError(f"no address of http or https: {text}")


def check_mail_address(text: str) -> None:
    """Exactly one mail address, with or without a name."""
    from ..actors.delivery.mail import one_address

    one_address(text)


_TEN_YEARS = 10 * 365 * 86400
_EXABYTE = 10**18
_SIZES = 'bytes, or a text such as `"4GiB"`, `"500MB"`'
_DISK_SHARE = 100
_MOST_KEPT_FREE = 1024**3
"""The most bytes of a disk that are kept free for the log and other programs; of a smaller disk, a hundredth is."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A key's description and checks, in addition to its type."""

    says: str
    allowed: str
    default: str = ""
    """The default in words, where the value itself would say nothing."""
    read: Callable[[str], Any] | None = None
    """Makes the value from a text such as `4GiB`."""
    check: Callable[[str], None] | None = None
    """Checks a text, or each text of a list; raises ValueError."""
    live: bool = False
    """Whether a running service takes a new value when it reads its configuration again."""


def _key(says: str, allowed: str, *, default: str = "", **bounds: Any) -> msgspec.Meta:
    known = {name: bounds.pop(name) for name in ("read", "check", "live") if name in bounds}
    rule = Rule(says=says, allowed=allowed, default=default, **known)
    return msgspec.Meta(extra={"rule": rule}, **bounds)


def _bytes(says: str, *, live: bool = False) -> msgspec.Meta:
    return _key(says, _SIZES, read=parse_size, live=live, ge=0, le=_EXABYTE)


def _mark(says: str, default: str) -> msgspec.Meta:
    return _key(says, _SIZES, default=default, read=parse_size, live=True)


def _number(says: str) -> msgspec.Meta:
    return _key(says, "0 to 1000000", live=True, ge=0, le=1_000_000)


def _limits(says: str) -> msgspec.Meta:
    return _key(says, "a list of `name=number`, numbers from 1", check=check_limit, live=True)


def _seconds(says: str, default: str, *, live: bool = False) -> msgspec.Meta:
    allowed = 'seconds, or a text such as `"30s"`, `"2h"`, `"1.5d"`'
    return _key(says, allowed, default=default, read=parse_duration, live=live, ge=0, le=_TEN_YEARS)


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_Mark: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_EXABYTE)] | None
_Folders: TypeAlias = tuple[str, ...]
_PORT = "0 to 65535"


def _real(roots: tuple[str, ...]) -> tuple[str, ...]:
    from ..handlers.urls import is_url

    return tuple(root if is_url(root) else os.path.realpath(root) for root in roots)


_SUBMISSIONS = 465


class Smtp(msgspec.Struct, frozen=True, kw_only=True):
    """The mail server that notices by email go through."""

    host: Annotated[str, _key("Name of the mail server. Empty: no mail is sent.", "a host name", live=True)] = ""
    port: Annotated[int, _key("Its port.", "1 to 65535", live=True, ge=1, le=65535)] = 587
    user: Annotated[str, _key("The name to log in with. Empty: no login.", "a text", live=True)] = ""
    password: Annotated[Secret, _key("The password of `user`. Never shown.", "a text", default="none", live=True)] = (
        Secret("")
    )
    starttls: Annotated[
        bool,
        _key(
            "Encrypt by STARTTLS and check the certificate; a server that does not offer it gets no mail then.",
            "true or false",
            live=True,
        ),
    ] = True
    tls: Annotated[
        bool,
        _key(
            "Speak TLS from the first byte instead, and check the certificate. With port 465 it is always so.",
            "true or false",
            live=True,
        ),
    ] = False
    sender: Annotated[
        str,
        _key(
            "The address that mail comes from; needed with `host`.",
            "one mail address",
            check=check_mail_address,
            live=True,
        ),
    ] = ""
    max_per_hour: Annotated[
        int,
        _key("Mails that one address gets within an hour; more wait. 0: any number.", "0 to 1000000", ge=0, le=10**6),
    ] = 60

    @property
    def tls_at_once(self) -> bool:
        """Whether to speak TLS from the first byte, which is all that port 465 is for (RFC 8314)."""
        return self.tls or self.port == _SUBMISSIONS


TARGET = Rule(
    says="Where notices to the target of this name go. Never shown.",
    allowed="one address of Apprise, such as `slack://…`; the name: a letter, then letters, digits and `_`, lower case",
    default="none",
    check=check_target,
    live=True,
)
"""The rule of every key of the table [apprise]."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. The units are bytes, seconds, and percent of the whole machine."""

    file: str = ""
    """The file that the values were read from; empty if there was none. This is no key."""
    handlers: Annotated[
        tuple[str, ...],
        _key("Modules with task types of your own, beside the installed entry points.", "a list of module names"),
    ] = ()
    workers: Annotated[
        int,
        _key("Worker processes kept ready.", "1 to 1024", default="the number of usable CPUs", ge=1, le=1024),
    ] = msgspec.field(default_factory=usable_cpus)
    worker_labels: Annotated[
        tuple[str, ...],
        _key(
            "Labels that some workers offer, and how many do. A task that needs one runs there and nowhere else.",
            "a list of `label=number`, numbers from 1",
            check=check_limit,
        ),
    ] = ()
    executor: Annotated[
        Literal["local", "ray"],
        _key(
            "Where attempts run: in processes of this machine, or on the nodes of a Ray cluster (extra `ray`).",
            "local or ray",
        ),
    ] = "local"
    ray_address: Annotated[
        str,
        _key(
            "The head of the Ray cluster. Ray's own settings (`RAY_AUTH_…`, `RAY_TLS_…`) say how it is talked to.",
            "`host:port`",
            default="none",
            check=check_address_of_head,
        ),
    ] = ""
    ray_lease: Annotated[
        float,
        _key(
            "How long an attempt on a node goes on without word from the service; the service waits as long before it "
            "calls a silent attempt lost.",
            'seconds from 1 to 3600, or a text such as `"30s"`',
            default="`10s`",
            read=parse_duration,
            ge=1,
            le=3600,
        ),
    ] = 10.0
    ray_cpus: Annotated[
        float,
        _key(
            "CPUs that each worker books on its node; its attempt may keep that many busy.",
            "0.1 to 1024",
            ge=0.1,
            le=1024,
        ),
    ] = 1.0
    ray_memory: Annotated[int, _bytes("Memory that each worker books on its node; 0: none is booked.")] = 0
    ray_resources: Annotated[
        tuple[str, ...],
        _key(
            "What else each worker books on its node, `GPU` or a resource of your own.",
            "a list of `name=number`, numbers from 1",
            check=check_limit,
        ),
    ] = ()
    ray_gpus: Annotated[
        int,
        _key(
            "GPUs that a worker books where its node has that many free. Such a worker offers the label `gpu`; "
            "0: none.",
            "0 to 64",
            ge=0,
            le=64,
        ),
    ] = 0
    node_labels: Annotated[
        tuple[str, ...],
        _key(
            "Labels of this machine, for tasks that require some; those of a cluster's nodes come from the cluster.",
            "a list of `key=value`",
            check=check_node_label,
        ),
    ] = ()
    max_cores: Annotated[
        int,
        _key("CPUs that one task may keep busy where its type can use several; 0: all.", "0 to 1024", ge=0, le=1024),
    ] = 0
    pass_environment: Annotated[
        tuple[str, ...],
        _key(
            "Environment variables of the service, or of the node in a cluster, that every attempt sees, also one that "
            "reads a stranger's file.",
            "a list of names",
            check=check_variable,
        ),
    ] = ()
    worker_nice: Annotated[
        int,
        _key(
            "Added to the niceness of workers and of all they start: other programs go first.", "0 to 19", ge=0, le=19
        ),
    ] = 0
    worker_io: Annotated[
        Literal["normal", "low", "idle"],
        _key(
            "How their disk accesses rank: as those of other programs, after them, or only while there are no others. "
            "Linux, and only with an I/O scheduler that knows ranks (BFQ).",
            "normal, low or idle",
        ),
    ] = "normal"
    max_concurrent: Annotated[
        int,
        _key("Tasks that may run at once; 0: as many as `workers`.", "0 to 1024", live=True, ge=0, le=1024),
    ] = 0
    max_memory: Annotated[
        int, _bytes("The most memory to reserve for all running tasks together; 0: no limit.", live=True)
    ] = 0
    worker_memory_limit: Annotated[
        int,
        _bytes("Address space that one attempt may have at most; 0: as much as follows from its estimate.", live=True),
    ] = 0
    max_cpu: Annotated[
        float,
        _key(
            "No task starts while the machine's CPU use is above this.", "1 to 100, in percent", live=True, ge=1, le=100
        ),
    ] = 100.0
    max_temp_size: Annotated[
        int,
        _bytes(
            "The most temp space to reserve for all running tasks together; 0: no limit. It also bounds what "
            "ended tasks leave behind: beyond it their whole folders go before `cleanup_after`, the one untouched "
            "longest first.",
            live=True,
        ),
    ] = 0
    temp_low: Annotated[
        _Mark,
        _mark(
            "With less free temp space than this no task starts; 0: never looked at.",
            "a hundredth of the disk, at most 1 GiB",
        ),
    ] = None
    temp_high: Annotated[
        _Mark,
        _mark("Free temp space at which tasks start again after it was low; not below `temp_low`.", "twice `temp_low`"),
    ] = None
    max_per_type: Annotated[int, _number("Tasks of one type that may run at once; 0: any number.")] = 0
    max_per_user: Annotated[int, _number("Tasks of one user that may run at once; 0: any number.")] = 0
    max_per_label: Annotated[int, _number("Tasks of one label that may run at once; 0: any number.")] = 0
    type_limits: Annotated[tuple[str, ...], _limits("Types that a number of their own holds for.")] = ()
    user_limits: Annotated[tuple[str, ...], _limits("Users, by number, that a number of their own holds for.")] = ()
    label_limits: Annotated[tuple[str, ...], _limits("Labels that a number of their own holds for.")] = ()
    rates: Annotated[
        tuple[str, ...],
        _key(
            "The most starts in a period, of a type, a user or a label; `*` stands for each that has no rate of its "
            "own.",
            "a list of `type:name=rate`, `user:name=rate`, `label:name=rate`, where a rate is `10/m`, `3/15m`, `100/h`",
            check=check_rate,
            live=True,
        ),
    ] = ()
    windows: Annotated[
        tuple[str, ...],
        _key(
            "When tasks of a type may start; what runs goes on. Several of one type add up; `*` stands for each type "
            "that has none of its own.",
            "a list of `type=22-06` or `type=mon-fri 8:30-18`, in quarters of an hour",
            check=check_window,
            live=True,
        ),
    ] = ()
    windows_timezone: Annotated[
        str,
        _key("The time zone whose clock `windows` go by.", "a zone such as Europe/Berlin", check=check_zone, live=True),
    ] = "UTC"
    cpu_limits: Annotated[
        tuple[str, ...],
        _key(
            "CPU seconds that an attempt of a type may use, its child processes included, in place of what the type "
            "itself says; a type that says nothing has no limit but the kernel's for its worker.",
            "a list of `type=seconds`, seconds from 1",
            check=check_limit,
        ),
    ] = ()
    fair_share: Annotated[
        bool,
        _key(
            "Users take turns, before priorities count: first who has the least running, "
            "then whose last start is longest ago.",
            "true or false",
            live=True,
        ),
    ] = False
    max_user_level: Annotated[
        int, _number("The highest `user_level` that a task may be given: each level goes ten minutes of waiting ahead.")
    ] = 10
    max_task_temp: Annotated[
        int,
        _bytes(
            "Temp space at which a running task is stopped; 0: three times its estimate, and at least 1 GiB.", live=True
        ),
    ] = 0
    max_output: Annotated[
        int,
        _bytes(
            "The most that is kept of what one attempt prints: half from the beginning, up to half from the end; "
            "0: nothing."
        ),
    ] = 1024 * 1024
    c2pa_certificate: Annotated[
        str,
        _key(
            "Certificates in PEM, the signer's first. With them outputs of `image_convert` and `video_convert` get a "
            "C2PA manifest, where their format can carry one.",
            "an absolute path",
            default="none",
            check=check_absolute,
        ),
    ] = ""
    c2pa_key: Annotated[
        str,
        _key(
            "The signer's key in PEM, which no task can read.",
            "an absolute path",
            default="none",
            check=check_absolute,
        ),
    ] = ""
    hash_inputs_up_to: Annotated[
        int,
        _bytes(
            "Inputs up to this size are read once more when a task completes, so that their SHA-256 is recorded, and "
            "so are outputs, even if their types give one; 0: only inputs of batches and watched folders, of any "
            "size."
        ),
    ] = 4 * 1024**3
    temp_dir: Annotated[
        str,
        _key(
            "Folder for the tasks' temp files.",
            "an absolute path",
            default="`tmp` in the data folder",
            check=check_absolute,
        ),
    ] = ""
    cleanup_after: Annotated[
        float,
        _seconds(
            "Time since a task's end, and the last write there, after which its temp folder goes.", "`24h`", live=True
        ),
    ] = 86400.0
    grace_period: Annotated[
        float, _seconds("Between the wish to stop an attempt and its kill, for types that name none.", "`0.5s`")
    ] = 0.5
    max_crashes: Annotated[
        int,
        _key(
            "Crashes in a row without a new checkpoint after which a task is failed for good.",
            "1 to 1000",
            live=True,
            ge=1,
            le=1000,
        ),
    ] = 3
    snapshot_every: Annotated[
        int,
        _key(
            "Records between two snapshots, which spare a start the folding of the whole log; 0: none taken or used.",
            "0 to 1000000000",
            ge=0,
            le=10**9,
        ),
    ] = 100_000
    seal_every: Annotated[
        float,
        _seconds(
            "Between two seals of the log, once `tasktrail seal` has made a key; 0: only starts and stops are sealed.",
            "`1h`",
        ),
    ] = 3600.0
    retention: Annotated[
        tuple[str, ...],
        _key(
            "When finished tasks are forgotten for good; the first rule that fits a task decides, and without one it "
            "is kept. See `tasktrail forget`.",
            "a list of `WHICH=AGE`: a duration or `never`, and one or more of `completed`, `failed` or `cancelled`, "
            "`type:NAME`, `user:NUMBER`, or `*` for all",
            check=check_retention,
        ),
    ] = ()
    archive_after: Annotated[
        str,
        _key(
            "When records are moved from `log.db` into compressed archives, 65,536 at a time, unless something "
            "unfinished is among them. See `tasktrail archive`.",
            'a duration with its unit, such as `"90d"`; empty: never',
            check=check_age,
        ),
    ] = ""
    log: Annotated[
        str,
        _key(
            "Address of the log where it is on PostgreSQL, which takes tasktrail[postgresql]. The first start keeps it "
            "in the data folder, so that every command finds the log.",
            "`postgresql://USER@HOST/DATABASE`, without a password, which comes from ~/.pgpass or PGPASSWORD; "
            "empty: as the data folder says, or the file `log.db` in it",
            check=check_log_address,
        ),
    ] = ""
    seals_dir: Annotated[
        str,
        _key(
            "Folder for the seals alone, best on another disk. No task can reach into it.",
            "an absolute path",
            default="`seals` in the data folder",
            check=check_absolute,
        ),
    ] = ""
    personal_data: Annotated[
        Literal["plain", "encrypted"],
        _key(
            "Whether the log holds what is personal of new tasks in plain text, or encrypted with a key for each user, "
            "so that a user can be erased.",
            "plain or encrypted",
        ),
    ] = "plain"
    master_key: Annotated[
        str,
        _key(
            "File for the master key of the users' keys, best on another disk.",
            "an absolute path",
            default="`master-key` in the data folder",
            check=check_absolute,
        ),
    ] = ""
    retry_rules: Annotated[
        tuple[RetryRule, ...],
        _key(
            "Rules of your own on what may be tried again, before the built-in ones; the first match decides.",
            "tables with `name`, `retryable`, and one or more of `error_type`, `contains`, `exit_code`",
            read=parse_rules,
        ),
    ] = ()
    presets: Annotated[
        tuple[Preset, ...],
        _key(
            "Presets of your own, beside the built-in ones or in their place.",
            "tables with `name`, `type`, `options`, and perhaps `summary` and `output_suffix`",
            read=parse_rules,
        ),
    ] = ()
    input_roots: Annotated[
        _Folders,
        _key(
            "Inputs must lie below one of these. Empty: at any path. Addresses of files elsewhere are accepted below "
            "the places that are named here, and nowhere else.",
            "a list of absolute paths, `s3://bucket/prefix/`, `https://host/folder/`",
            check=check_place,
        ),
    ] = ()
    output_roots: Annotated[
        _Folders,
        _key(
            "The same for outputs.",
            "a list of absolute paths, `s3://bucket/prefix/`",
            check=check_written_place,
        ),
    ] = ()
    sandbox: Annotated[
        Literal["auto", "off", "require"],
        _key(
            "Whether attempts are sandboxed, each in a process of its own that reaches its input, its folder, its "
            "output and what its type asks for: as far as the kernel can (`tasktrail doctor` shows it), never, or "
            "wholly, and else the service does not start.",
            "auto, off or require",
        ),
    ] = "auto"
    smtp: Smtp = Smtp()
    webhook_secret: Annotated[
        Secret,
        _key(
            "Signs webhooks and callbacks after Standard Webhooks; with each of several while secrets are changed. "
            "Empty: they go unsigned. Never shown.",
            "`whsec_` and the base64 of 24 to 64 random bytes; up to 4 of them, separated by spaces",
            default="none",
            live=True,
            check=check_webhook_secrets,
        ),
    ] = Secret("")
    apprise: Annotated[dict[str, Secret], msgspec.Meta(extra={"rule": TARGET})] = {}
    allow_endpoints: Annotated[
        tuple[str, ...],
        _key(
            "Receivers of webhooks that may be in a private network, without https, on any port, named by number.",
            "a list of `host` or `host:port`",
            live=True,
            check=check_endpoint,
        ),
    ] = ()
    host: Annotated[str, _key("Address that the HTTP service listens on.", "an address or host name")] = "127.0.0.1"
    port: Annotated[int, _key("Its port; 0 takes any free one.", _PORT, ge=0, le=65535)] = 0
    otel_endpoint: Annotated[
        str,
        _key(
            "Where spans of tasks are sent, by OTLP over HTTP; `/v1/traces` is added. Empty: to "
            "OTEL_EXPORTER_OTLP_ENDPOINT, and without it none are made.",
            "an address such as `http://localhost:4318`",
            default="none",
            check=check_address,
        ),
    ] = ""
    hosts: Annotated[
        tuple[str, ...],
        _key(
            "Names by which others call the service, such as `tasks.example.org`; requests for another are refused.",
            "a list of host names, without port",
            check=check_host,
        ),
    ] = ()
    tls_certificate: Annotated[
        str,
        _key(
            "The service's certificate, with those that vouch for it, in PEM: the port then speaks TLS. Read again "
            "when the file changes.",
            "an absolute path",
            default="none",
            check=check_absolute,
        ),
    ] = ""
    tls_key: Annotated[
        str,
        _key(
            "The certificate's key, where it is a file of its own.",
            "an absolute path",
            default="none",
            check=check_absolute,
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        _key(
            "Proxies in front of the port, which speak TLS with the world: what they say in `X-Forwarded-For`, "
            "`-Proto` and `-Host` is believed.",
            "a list of addresses and networks, such as `127.0.0.1`, `10.0.0.0/8`",
            check=check_network,
        ),
    ] = ()
    rate_limit: Annotated[
        float,
        _key(
            "Requests a second that each token may send, twice as many after a pause. 0: any number.",
            "0 to 1000000",
            ge=0,
            le=10**6,
        ),
    ] = 200.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _key("The least important messages that are shown.", "debug, info, warning or error"),
    ] = "info"
    log_format: Annotated[
        Literal["console", "json"],
        _key("Lines for people, or one JSON object a line.", "console or json"),
    ] = "console"

    def archives_after(self) -> float | None:
        """Return the seconds after which records are archived; None: never."""
        return parse_age(self.archive_after) if self.archive_after else None

    def retention_rules(self) -> tuple[RetentionRule, ...]:
        """The rules of `retention`."""
        return tuple(map(retention_rule, self.retention))

    def for_workers(self, protected: tuple[str, ...] = (), owner: str = "") -> "Sandbox":
        """Return the sandbox of the workers: their limits and roots.

        Args:
            protected: real paths that no attempt may reach, besides those of `private_paths`.
            owner: see `storage`.
        """
        from ..handlers.process.sandbox import Sandbox

        return Sandbox(
            mode=self.sandbox,
            protected=(*protected, *self.private_paths()),
            memory_limit=self.worker_memory_limit,
            cpu_limits={name: float(number) for name, number in parse_limits(self.cpu_limits).items()},
            input_roots=_real(self.input_roots),
            output_roots=_real(self.output_roots),
            storage=self.storage(owner),
        )

    def private_paths(self) -> tuple[str, ...]:
        """Return the files with secrets and the folder of seals, and their real paths. No task may use them.

        Both, because a link may come to lead to another file: that is how keys of TLS are renewed.
        """
        keys = self.master_key, self.c2pa_key, self.tls_key or self.tls_certificate
        paths = tuple(filter(None, (*keys, self.file, self.seals_dir)))
        return tuple(dict.fromkeys((*map(os.path.realpath, paths), *paths)))

    def storage(self, owner: str = "") -> "Storage | None":
        """Return how files elsewhere are reached; None if no root is an address. `owner`: the mark on outputs."""
        from ..handlers.elsewhere import Storage
        from ..handlers.urls import is_url

        if not any(map(is_url, (*self.input_roots, *self.output_roots))):
            return None
        return Storage(
            mover="tasktrail.actors.storage.mover",
            owner=owner,
            largest=self.max_temp_size,
            private_hosts=self.allow_endpoints,
        )

    def limits(self, disk: int = 0) -> "Limits":
        """Return the Scheduler's limits. `disk`: the bytes of the disk with the temp files; 0: unknown."""
        from ..actors.core.limits import UNLIMITED, Limits

        low = self._kept_free(disk) if self.temp_low is None else self.temp_low
        return Limits(
            max_concurrent=self.max_concurrent or self.workers,
            max_memory=self.max_memory or UNLIMITED,
            max_cpu=self.max_cpu,
            max_temp_size=self.max_temp_size or UNLIMITED,
            temp_low=low,
            temp_high=2 * low if self.temp_high is None else self.temp_high,
            max_task_temp=self.max_task_temp,
            max_crashes=self.max_crashes,
            max_per_type=self.max_per_type,
            max_per_user=self.max_per_user,
            max_per_label=self.max_per_label,
            types=parse_limits(self.type_limits),
            users=parse_limits(self.user_limits),
            labels=parse_limits(self.label_limits),
            rates={name: rate for name, _, rate in (text.rpartition("=") for text in self.rates)},
            windows=parse_windows(self.windows),
            windows_timezone=self.windows_timezone,
            fair_share=self.fair_share,
        )

    def ceiling(self, temp: Path) -> "Ceiling":
        """Return what a task could get if nothing else ran. `temp`: the folder of the temp files.

        The memory is that of this machine, or without bound on a cluster: it is not known which node the task gets.
        """
        from ..actors.core.limits import UNLIMITED
        from ..actors.core.resources import Ceiling
        from ..actors.machine import Machine, disk_size

        limits, disk = self.limits(), disk_size(temp)
        memory = UNLIMITED if self.executor == "ray" else Machine(temp).limits().memory
        return Ceiling(min(limits.max_memory, memory), min(limits.max_temp_size, disk or UNLIMITED))

    def room(self, temp: Path) -> "Room":
        """Return the room of one attempt, for types that can choose. Half of the memory is left to others."""
        from ..handlers.contract import Room

        return Room(self.max_cores or usable_cpus(), self.ceiling(temp).memory // 2)

    def _kept_free(self, disk: int) -> int:
        share = min(disk // _DISK_SHARE, _MOST_KEPT_FREE)
        return share if self.temp_high is None else min(share, self.temp_high)

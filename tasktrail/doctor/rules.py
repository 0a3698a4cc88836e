"""The rules of `doctor`: one small function for each question, with good news or a remedy. `examine` applies them all.

The rules depend only on the facts, collected before by `facts.collect_facts`, and on the configuration.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path

from ..actors.core.limits import EACH
from ..config.load import load_config
from ..config.settings import Config, parse_limits, parse_windows
from ..events.counted import counted, plural
from ..events.errors import ConfigurationError
from ..handlers.contract import Diagnosis, Level
from ..words import size
from .facts import Facts, Folder, collect_facts

OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 37, 0)
"""The first version with STRICT tables."""
_WAL_RESET = ((3, 7, 0), (3, 51, 2))
_WAL_RESET_FIXED = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}
"""Branches with a backported fix → the first good version."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "9p", "ceph", "glusterfs", "lustre", "afs", "davfs", "webdav"}
)
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})

LITTLE_SPACE = 1_000_000_000
TOO_LITTLE_SPACE = 100_000_000
ROOM_FOR_FEW_FILES = 1_000
FEW_FILES = 256
FILES_PER_WORKER = 8
RENEW_WITHIN = timedelta(days=30)
CLOCK_TOLERANCE = timedelta(seconds=2)
WORKER_MEMORY = 64 * 1024 * 1024


def apply_rules(facts: Facts, config: Config) -> Iterator[Diagnosis]:
    """Yield every diagnosis, in the order in which they are shown."""
    for rule in _RULES:
        yield from rule(facts, config)


def _python(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    version = ".".join(map(str, facts.python))
    if facts.python[:2] < OLDEST_PYTHON:
        yield Diagnosis("python", "fail", f"Python {version} is too old", "Use Python 3.11 or later.")
    else:
        yield Diagnosis("python", "ok", f"Python {version}")


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether two connections that write or checkpoint at once can damage a database in WAL mode."""
    first_good = _WAL_RESET_FIXED.get((version[0], version[1]))
    if first_good is not None and version >= first_good:
        return False
    return _WAL_RESET[0] <= version <= _WAL_RESET[1]


def _sqlite(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    version = ".".join(map(str, facts.sqlite))
    if facts.sqlite < OLDEST_SQLITE:
        yield Diagnosis("sqlite", "fail", f"SQLite {version} is too old", "Use a Python with SQLite 3.37 or later.")
    elif has_wal_reset_bug(facts.sqlite):
        yield Diagnosis(
            "sqlite",
            "warn",
            f"SQLite {version} can damage a database in WAL mode when two connections write to it at once; "
            "tasktrail writes through one, other programs may write, too",
            "Never write to log.db or views.db with another program; or use SQLite 3.51.3, 3.50.7, 3.44.6 or later.",
        )
    else:
        yield Diagnosis("sqlite", "ok", f"SQLite {version}")


def _folders(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    yield from _folder("data_folder", facts.data)
    if facts.temp.path != facts.data.path:
        yield from _folder("temp_folder", facts.temp)


def _folder(name: str, folder: Folder) -> Iterator[Diagnosis]:
    if folder.trouble:
        yield Diagnosis(name, "fail", folder.trouble, folder.remedy)
    elif folder.open_to_others:
        yield Diagnosis(name, "warn", f"{folder.path} may be written to by every user", f"chmod o-w {folder.path}")
    else:
        yield Diagnosis(name, "ok", f"{folder.path} {'can be written to' if folder.exists else 'will be made'}")


def _owner(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    if facts.foreign:
        more = f" and {len(facts.foreign) - 1} more" if facts.foreign[1:] else ""
        yield Diagnosis(
            "owner",
            "fail",
            f"{facts.foreign[0]}{more} does not belong to {facts.owner}, the owner of the data folder",
            f"With the service stopped: chown -R {facts.owner} {facts.data.path}",
        )
    elif facts.data.exists:
        yield Diagnosis("owner", "ok", f"all of {facts.data.path} belongs to {facts.owner}")


def _privacy(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    if facts.loose:
        more = f" and {len(facts.loose) - 1} more" if facts.loose[1:] else ""
        yield Diagnosis(
            "privacy",
            "warn",
            f"other users may reach {facts.loose[0]}{more} (files should be 0600, folders 0700)",
            f"Each start of the service closes them; or: chmod go-rwx {facts.loose[0]}",
        )
    elif facts.shared:
        yield Diagnosis(
            "privacy",
            "warn",
            f"other users may look into {facts.data.path}, which also holds other things and so is "
            f"left open; they cannot read tasktrail's files",
            "Use a folder of its own (--data), or close this one: chmod 700",
        )
    elif facts.data.exists:
        yield Diagnosis("privacy", "ok", "only its owner can read the data folder")


def _file_system(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    kind = facts.data.file_system
    if kind.lower() in NETWORK_FILE_SYSTEMS or kind.lower().startswith("fuse."):
        yield Diagnosis(
            "file_system",
            "fail",
            f"{facts.data.path} lies on {kind}: locks and syncs are unreliable on a network file system",
            "Put the data folder on a local disk.",
        )
    elif kind.lower() in MEMORY_FILE_SYSTEMS:
        yield Diagnosis(
            "file_system",
            "warn",
            f"{facts.data.path} lies in memory ({kind}): the log is gone when the machine restarts",
            "Put the data folder on a disk.",
        )
    else:
        yield Diagnosis("file_system", "ok", f"{kind or 'an unknown kind'}, local")


def _space(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    for name, folder in (("data_space", facts.data), ("temp_space", facts.temp)):
        message = f"{size(folder.free)} free at {folder.path}"
        if folder.files is not None and folder.files < ROOM_FOR_FEW_FILES:
            few = f"{message}, but only {counted(folder.files, 'more file')} can be made there (`df -i`)"
            yield Diagnosis(name, "fail", few, "Delete files, however small: each takes an inode.")
        elif folder.free < TOO_LITTLE_SPACE:
            yield Diagnosis(name, "fail", message, "Free some space: a full disk stops every task.")
        elif folder.free < LITTLE_SPACE:
            yield Diagnosis(name, "warn", message, "Free some space before it is full.")
        else:
            yield Diagnosis(name, "ok", message)


def _lock(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    who = f"a standby waits: {facts.holder}" if facts.is_standby else f"a service runs: {facts.holder}"
    yield Diagnosis("lock", "ok", "no service runs" if facts.holder is None else who)
    message, remedy = facts.service_trouble
    if message:
        yield Diagnosis("service", "fail", f"it takes no commands now: {message}", remedy)
    for degraded in facts.service_degraded:
        yield Diagnosis(
            "service", "warn", degraded, "Look at the service's log. The service recovers by itself once this is over."
        )


def _log(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    message, remedy = facts.log_trouble
    if message:
        yield Diagnosis("log", "fail", message, remedy)
    elif facts.last_recorded is None:
        yield Diagnosis("log", "ok", "empty, or none yet")
    else:
        by = f", last written by tasktrail {facts.last_writer}" if facts.last_writer else ""
        yield Diagnosis("log", "ok", f"can be read{by}")


def _history(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    message, remedy = facts.history_trouble
    if message:
        yield Diagnosis("history", "fail", message, remedy)
    else:
        yield Diagnosis("history", "ok", "the log has every record that views, snapshots or its mark have seen")


def _keys(facts: Facts, config: Config) -> Iterator[Diagnosis]:
    message, remedy = facts.keys_trouble
    if message:
        yield Diagnosis("keys", "fail", message, remedy)
    elif config.personal_data == "encrypted":
        yield Diagnosis("keys", "ok", "the keys of personal data can be used, or none is needed yet")


def _clock(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    last = facts.last_recorded
    if last is not None and facts.now + CLOCK_TOLERANCE < last:
        yield Diagnosis(
            "clock",
            "warn",
            f"the clock says {facts.now:%Y-%m-%d %H:%M:%S} UTC, but the log's last record is of "
            f"{last:%Y-%m-%d %H:%M:%S}: until then every record gets that same time",
            "If the clock is right now, it was ahead before: do nothing. Otherwise set it, and let a "
            "time service keep it.",
        )
    else:
        yield Diagnosis("clock", "ok", f"{facts.now:%Y-%m-%d %H:%M:%S} UTC, not before the log's last record")


def _killing(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    can = facts.capabilities
    weak = [
        text
        for text, strong in (
            ("processes that leave for a session of their own survive a cancel", can.kills_escaped),
            ("processes may survive a kill of their reaper", can.finds_orphans),
        )
        if not strong
    ]
    if weak:
        remedy = "Run the service on Linux, or only handlers that do not start such processes."
        yield Diagnosis("process_trees", "warn", f"{can.hard_kill_tree}; {'; '.join(weak)}", remedy)
    else:
        yield Diagnosis("process_trees", "ok", can.hard_kill_tree)


def _sandbox(facts: Facts, config: Config) -> Iterator[Diagnosis]:
    if config.sandbox == "off":
        message = "`sandbox` is off: a handler can do whatever the service can"
        yield Diagnosis("sandbox", "warn", message, 'Set `sandbox = "auto"`, unless only your own files are worked on.')
        return
    level: Level = "fail" if config.sandbox == "require" else "warn"
    sandbox_support = facts.sandbox_support
    yield _wall(
        "sandbox_files",
        level,
        "an attempt can use its input, its folder and its output, programs and libraries, and no other files "
        f"(Landlock, version {sandbox_support.landlock})"
        if sandbox_support.landlock
        else "",
        "an attempt can read and write whatever the service can: there is no Landlock, or it is too old",
        "Use Linux 5.19 or later with Landlock switched on (`lsm=` of the kernel's command line).",
    )
    yield _wall(
        "sandbox_calls",
        level,
        "an attempt has no network unless its type asks for it, and no system call that changes the machine (seccomp)"
        if sandbox_support.seccomp
        else "",
        "an attempt can reach the network: system calls cannot be filtered here",
        "Use Linux on x86-64 or ARM64, in a container that allows seccomp.",
    )
    yield _wall(
        "sandbox_processes",
        level,
        "an attempt sees only its own processes, and none of them outlives its reaper (PID namespace)"
        if sandbox_support.own_proc
        else "",
        "a process that an attempt hides may outlive a kill of its reaper: there is no PID namespace"
        if not sandbox_support.pid_namespace
        else "an attempt sees that there are other processes: its namespace cannot have a /proc of its own",
        "Allow user namespaces to the service's user, or CAP_SYS_ADMIN to its container. Until then a type that uses "
        'multiprocessing needs `writes=("/dev/shm",)`.',
    )


def _cluster(facts: Facts, config: Config) -> Iterator[Diagnosis]:
    if config.executor == "local":
        return
    trouble, remedy = facts.cluster_trouble
    if trouble:
        yield Diagnosis("cluster", "fail", trouble, remedy)
        return
    memory = f" and {size(config.ray_memory)} of memory" if config.ray_memory else ""
    booked = (
        f"{plural(config.workers, 'books', 'book')} {config.ray_cpus:g} {plural(config.ray_cpus, 'CPU')}{memory} each"
    )
    yield Diagnosis(
        "cluster",
        "ok",
        f"attempts run on the nodes of the Ray cluster at {config.ray_address}: {counted(config.workers, 'worker')} "
        f"that {booked}; an attempt that is silent for {config.ray_lease:g} s is ended. What is said "
        f"of processes here applies to each node as far as it has the means. `tasktrail nodes` lists "
        f"the nodes",
    )


def _wall(name: str, level: Level, present: str, missing: str, remedy: str) -> Diagnosis:
    return Diagnosis(name, "ok", present) if present else Diagnosis(name, level, missing, remedy)


def _resources(facts: Facts, config: Config) -> Iterator[Diagnosis]:
    limits = facts.limits
    where = "the container or unit allows" if limits.memory_is_limited or limits.cpu_is_limited else "the machine has"
    cpus = f"{limits.cpus:g} {plural(limits.cpus, 'CPU')}"
    yield Diagnosis("machine", "ok", f"{where} {cpus} and {size(limits.memory)} of memory")
    if config.executor == "local" and config.workers > limits.cpus:
        message = f"{config.workers} workers share {cpus}"
        yield Diagnosis("workers", "warn", message, "Lower `workers`, unless the tasks mostly wait.")
    if config.max_memory > limits.memory:
        message = f"max_memory is {size(config.max_memory)}, more than there is"
        yield Diagnosis("max_memory", "warn", message, "Lower `max_memory`.")
    if config.workers * WORKER_MEMORY > limits.memory:
        message = f"{config.workers} idle workers alone may need {size(config.workers * WORKER_MEMORY)}"
        yield Diagnosis("worker_memory", "warn", message, "Lower `workers`.")


def _open_files(facts: Facts, config: Config) -> Iterator[Diagnosis]:
    needed = FEW_FILES + FILES_PER_WORKER * config.workers
    if 0 <= facts.open_files < needed:
        message = f"only {facts.open_files} files may be open at once"
        yield Diagnosis("open_files", "warn", message, f"Raise the limit to {needed} or more (ulimit -n).")
    else:
        yield Diagnosis("open_files", "ok", "enough files may be open at once")


def _handlers(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    for error, remedy in facts.handler_errors:
        yield Diagnosis("handlers", "fail", error, remedy)
    if facts.types:
        yield Diagnosis("handlers", "ok", ", ".join(facts.types))
    else:
        yield Diagnosis("handlers", "fail", "there is no task type", "Install tasktrail again: its own types are gone.")


def _named_types(facts: Facts, config: Config) -> Iterator[Diagnosis]:
    """A misspelt type in a key has no effect: the tasks that are meant are never forgotten, or have no limit."""
    for key, name in _types_in(config) if facts.types else ():
        if name not in facts.types:
            near = get_close_matches(name, facts.types, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield Diagnosis(
                "type_names",
                "warn",
                f"{key} names the type {name}, which no handler has{hint}",
                "Correct the key, unless it is for tasks of a type that is gone.",
            )


def _types_in(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each key of the configuration that names a type, with that type."""
    named = {
        "type_limits": parse_limits(config.type_limits),
        "cpu_limits": parse_limits(config.cpu_limits),
        "windows": [name for name in parse_windows(config.windows) if name != EACH],
        "rates": [
            name.removeprefix("type:")
            for name, _, _rate in (text.rpartition("=") for text in config.rates)
            if name.startswith("type:") and name != f"type:{EACH}"
        ],
        "retention": [rule.type for rule in config.retention_rules() if rule.type is not None],
    }
    for key, names in named.items():
        yield from ((key, name) for name in dict.fromkeys(names))


def _presets(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    for error in facts.preset_errors:
        yield Diagnosis(
            "presets", "fail", error, "Correct it in the configuration; `tasktrail types` lists the options."
        )


def _types(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    for lack in facts.lacking:
        message = f"{', '.join(lack.packages)} not installed: no task of {', '.join(lack.types)} is taken"
        yield Diagnosis("packages", "warn", message, f"Install {lack.install}, if these types are wanted.")
    yield from facts.diagnoses


def _notices(facts: Facts, config: Config) -> Iterator[Diagnosis]:
    if not config.smtp.host:
        message = "no mail server is configured: no mail can be sent to `notify_email`"
        yield Diagnosis("mail", "warn", message, "Set `smtp.host` and `smtp.sender` if mail is wanted.")
    elif not config.smtp.starttls and not config.smtp.tls_at_once:
        message = f"mail goes to {config.smtp.host} without encryption"
        remedy = "Set `smtp.starttls` or `smtp.tls` unless the server is on this machine."
        yield Diagnosis("mail", "warn", message, remedy)
    else:
        how = "by TLS from the first byte" if config.smtp.tls_at_once else "by STARTTLS"
        yield Diagnosis("mail", "ok", f"mail goes through {config.smtp.host}:{config.smtp.port}, encrypted {how}")
    if config.webhook_secret:
        yield Diagnosis("webhooks", "ok", "webhooks are signed")
    else:
        message = "webhooks are unsigned: a receiver cannot verify who sent them"
        yield Diagnosis("webhooks", "warn", message, "Set `webhook_secret` if webhooks are used.")
    trouble, remedy = facts.targets_trouble
    if trouble:
        yield Diagnosis("targets", "fail", trouble, remedy)
    elif config.apprise:
        yield Diagnosis("targets", "ok", f"`notify_targets` may name {', '.join(sorted(config.apprise))}")
    if facts.config_is_open:
        message = "the configuration file holds secrets and other users may read it"
        yield Diagnosis("secrets", "warn", message, "chmod 600 the file, or move the secrets to the environment.")


def _witnesses(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    trouble, remedy = facts.witnesses_trouble
    if trouble:
        yield Diagnosis("witnesses", "fail", f"no witness is asked to sign the seals: {trouble}", remedy)
    for one in facts.witnesses:
        if one.trouble:
            yield Diagnosis(
                "witnesses",
                "warn",
                f"the witness {one.name} at {one.url} does not answer: {one.trouble}",
                f"It is asked again with each seal. If it is gone for good: tasktrail witness remove {one.name}",
            )
    if facts.witnesses and not any(one.trouble for one in facts.witnesses):
        names = ", ".join(one.name for one in facts.witnesses)
        yield Diagnosis("witnesses", "ok", f"each witness answers: {names}")


def _manifests(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    trouble, remedy = facts.claims_trouble
    if trouble:
        yield Diagnosis("manifests", "fail", trouble, remedy)
    if facts.claims is None:
        return
    renew = "Put certificates that are valid at c2pa_certificate, and start the service again."
    if untimely := facts.claims.trouble(facts.now):
        yield Diagnosis("manifests", "fail", f"tasks whose outputs get a manifest fail: {untimely}", renew)
        return
    message = f"outputs get a manifest; its certificates are valid until {facts.claims.ends:%Y-%m-%d %H:%M} UTC"
    if facts.claims.ends - facts.now < RENEW_WITHIN:
        yield Diagnosis("manifests", "warn", message, renew)
    else:
        yield Diagnosis("manifests", "ok", message)


def _certificate(facts: Facts, config: Config) -> Iterator[Diagnosis]:
    trouble, remedy = facts.certificate_trouble
    if trouble:
        yield Diagnosis("certificate", "fail", trouble, remedy)
    if facts.certificate is None:
        return
    begins, ends = facts.certificate.begins, facts.certificate.ends
    renew = f"Renew {config.tls_certificate}: a service that runs reads it again within a minute."
    if facts.now < begins:
        message = f"clients reject the port: its certificate is not valid before {begins:%Y-%m-%d %H:%M} UTC"
        yield Diagnosis("certificate", "fail", message, renew)
    elif facts.now > ends:
        message = f"clients reject the port: its certificate has expired; it was valid until {ends:%Y-%m-%d %H:%M} UTC"
        yield Diagnosis("certificate", "fail", message, renew)
    else:
        is_late = ends - facts.now < min(RENEW_WITHIN, (ends - begins) / 5)  # renewal usually happens at a third
        message = f"the certificate of the port is valid until {ends:%Y-%m-%d %H:%M} UTC"
        yield Diagnosis("certificate", *(("warn", message, renew) if is_late else ("ok", message)))


def _places(facts: Facts, _config: Config) -> Iterator[Diagnosis]:
    for one in facts.places:
        if one.trouble:
            remedy = one.remedy or "See that the server runs and that this machine reaches it."
            yield Diagnosis("places", "fail", f"files at {one.url} cannot be reached: {one.trouble}", remedy)
        else:
            by = f"; credentials: {one.by}" if one.by else ""
            yield Diagnosis("places", "ok", f"files at {one.url} can be reached, by this command{by}")


_RULES: tuple[Callable[[Facts, Config], Iterator[Diagnosis]], ...] = (
    _python,
    _sqlite,
    _folders,
    _owner,
    _privacy,
    _file_system,
    _space,
    _lock,
    _log,
    _history,
    _keys,
    _clock,
    _killing,
    _sandbox,
    _cluster,
    _places,
    _resources,
    _open_files,
    _handlers,
    _named_types,
    _presets,
    _types,
    _notices,
    _witnesses,
    _manifests,
    _certificate,
)


def examine(data_dir: Path, config: Config | None = None, file: Path | None = None) -> list[Diagnosis]:
    """Check the machine and the data folder; changes nothing. Return all diagnoses in a fixed order, also good ones.

    Without `config` the configuration is read as the service reads it, from `file` if given. If it cannot be used, that
    is a diagnosis, and the rest is checked with the defaults, except mail and webhooks.
    """
    diagnoses = []
    usable = True
    if config is None:
        try:
            config = load_config(data_dir, file=file)
        except ConfigurationError as error:
            diagnoses.append(Diagnosis("configuration", "fail", error.message, error.advice))
            config, usable = Config(), False
        else:
            diagnoses.append(Diagnosis("configuration", "ok", "all keys are known, and their values are allowed"))
    found = apply_rules(collect_facts(data_dir, config, file), config)
    if usable:
        return [*diagnoses, *found]
    # What it says of mail and of a secret is not known.
    return [*diagnoses, *(_without_modules(one) for one in found if one.name not in ("mail", "webhooks"))]


def _without_modules(diagnosis: Diagnosis) -> Diagnosis:
    """Warn that the found modules may not be all: the configuration that names them could not be read."""
    if diagnosis.name != "handlers" or diagnosis.level != "ok":
        return diagnosis
    message = f"{diagnosis.message}; the modules that the configuration names in `handlers` were not looked at"
    return Diagnosis("handlers", "warn", message, "Correct the configuration, and run `tasktrail doctor` again.")


def worst(diagnoses: list[Diagnosis]) -> str:
    """`fail`, `warn` or `ok`: the worst level there is."""
    levels = {diagnosis.level for diagnosis in diagnoses}
    return next((level for level in ("fail", "warn") if level in levels), "ok")

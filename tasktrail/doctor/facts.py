"""Collects the facts that `doctor` judges. It only looks: nothing is created, started or changed."""

import errno
import fcntl
import os
import resource
import select
import shutil
import socket
import sqlite3
import stat
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from ..actors.delivery.ssrf import EndpointRefused, host_and_port, parse_endpoint
from ..actors.delivery.targets import check_targets
from ..actors.executor import Capabilities
from ..actors.machine import Machine, MachineLimits, find_groups, nearest_existing
from ..actors.workers.local_executor import LocalExecutor
from ..api.client import Client
from ..api.source import refuse_unusable
from ..backups.evidence import refuse_older_log
from ..config.cluster import check_cluster
from ..config.load import FILE_NAME
from ..config.settings import Config
from ..events.errors import MOUNT_FOR_WRITING, ConfigurationError, KeysUnreadable, LogCorrupt, LogTooNew, TasktrailError
from ..events.existence import exists, is_dir
from ..events.log.files import free_files, read_small, refuse_rescued, try_to_write
from ..events.log.lock import holder as lock_holder
from ..events.log.lock import role
from ..events.log.opening import has_no_log, read_log
from ..handlers.contract import Diagnosis, TaskType, missing_packages
from ..handlers.elsewhere import Look, Reached, Refused, Storage
from ..handlers.manifests import Claims
from ..handlers.process.remote_files import MoverProcess
from ..handlers.process.sandbox import Sandbox, SandboxSupport, sandbox_support
from ..handlers.registry import Registry
from ..handlers.urls import is_url
from ..http.network import Network
from ..intake.refusals import preset_faults
from ..paths import DataPaths, foreign, is_shared, loose, user_name
from ..projections.errors import WitnessesDamaged
from ..projections.proof.witness_list import Witness, read_witnesses

_LOOK_WITHIN = 20.0
"""Seconds that a place of files elsewhere may take to answer."""
_CALL_WITHIN = 3.0
"""Seconds that a witness may take to accept a connection."""


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that the service writes to."""

    path: str
    exists: bool
    trouble: str = ""
    """Why it cannot be written; empty when it can."""
    remedy: str = ""
    """What to do about the trouble."""
    open_to_others: bool = False
    """Whether other users may write there."""
    file_system: str = ""
    free: int
    """Bytes."""
    files: int | None = None
    """How many files can still be made there; None if their number has no limit of its own."""


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """The time during which the port's certificate is valid."""

    begins: datetime
    ends: datetime


class Lack(msgspec.Struct, frozen=True, kw_only=True):
    """Packages that are not installed, and the task types that need them."""

    types: tuple[str, ...]
    packages: tuple[str, ...]
    install: str
    """What to install."""


class WitnessSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A witness of the seals."""

    name: str
    url: str
    trouble: str = ""
    """Why its address does not answer; empty when it does."""


class PlaceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A place of files elsewhere that the configuration names."""

    url: str
    trouble: str = ""
    """Why it cannot be reached; empty where it can."""
    remedy: str = ""
    by: str = ""
    """Where the credentials come from; never the credentials."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All facts that the rules judge."""

    platform: str
    python: tuple[int, int, int]
    sqlite: tuple[int, ...]
    data: Folder
    temp: Folder
    loose: tuple[str, ...] = ()
    """Files and folders of the data folder that others may reach."""
    shared: bool = False
    """Whether other users may look into the data folder, because it also holds other things."""
    foreign: tuple[str, ...] = ()
    """Files and folders of the data folder that belong to another user than the folder."""
    owner: str = ""
    """The user to whom the data folder belongs."""
    config_is_open: bool
    """Whether the configuration file holds secrets and other users may read it."""
    holder: str | None
    """The process that holds the data folder, or None."""
    is_standby: bool = False
    """Whether the holder is a standby, which takes no commands until it takes over."""
    capabilities: Capabilities
    sandbox_support: SandboxSupport
    """The means of the kernel to confine attempts."""
    limits: MachineLimits
    """Those of the service, if one runs: this process may be outside the service's container or unit."""
    types: tuple[str, ...]
    handler_errors: tuple[tuple[str, str], ...]
    """What is wrong with handlers, and what to do."""
    preset_errors: tuple[str, ...] = ()
    lacking: tuple[Lack, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    """The task types' own diagnoses about this machine."""
    targets_trouble: tuple[str, str] = ("", "")
    """Why the targets of the configuration cannot be used, and what to do."""
    witnesses: tuple[WitnessSeen, ...] = ()
    """The witnesses that are asked to sign the seals."""
    witnesses_trouble: tuple[str, str] = ("", "")
    """Why the list of witnesses cannot be read, and what to do."""
    claims: Claims | None = None
    """Certificate and key for the manifests of outputs; None unless configured and usable."""
    claims_trouble: tuple[str, str] = ("", "")
    """Why the configured certificate or key for manifests cannot be used, and what to do."""
    certificate: Validity | None = None
    """Validity of the port's certificate; None unless one is configured and usable."""
    certificate_trouble: tuple[str, str] = ("", "")
    """Why the configured certificate of the port cannot be used, and what to do."""
    cluster_trouble: tuple[str, str] = ("", "")
    """Why no attempt can run on the configured cluster, and what to do."""
    places: tuple[PlaceSeen, ...] = ()
    """The places of files elsewhere."""
    open_files: int
    """Most files that this process may have open."""
    now: datetime
    last_recorded: datetime | None
    """When the log's last record was written; None without a log, or with an empty one."""
    last_writer: str = ""
    """The version of the service that wrote last; empty without a log, or if no service has written to it."""
    log_trouble: tuple[str, str] = ("", "")
    """Why the log cannot be read, and what to do."""
    history_trouble: tuple[str, str] = ("", "")
    """Records that views, snapshots or the log's mark have seen but the log lacks, and what to do."""
    keys_trouble: tuple[str, str] = ("", "")
    """Why the keys of personal data cannot be used, and what to do."""
    service_trouble: tuple[str, str] = ("", "")
    """Why the running service takes no commands, and what to do."""
    service_degraded: tuple[str, ...] = ()
    """Faults of the running service that do not keep it from taking commands."""


def collect_facts(data_dir: Path, config: Config, file: Path | None = None) -> Facts:
    """Collect the facts of this machine and data folder. `file`: the configuration, if it is not in that folder."""
    paths = DataPaths(data_dir, Path(config.temp_dir) if config.temp_dir else None)
    registry = Registry.load(config.handlers, presets=config.presets)
    last, writer, trouble = _last_recorded(paths.log)
    holder = _holder(paths.lock)
    witnesses, unread = _witnesses(paths.witnesses)
    claims, unusable = _claims(config)
    certificate, unfit = _certificate(config)
    service = None if holder is None else lock_holder(paths.lock)
    is_standby = holder is not None and role(paths.lock) == "standby"
    refusal, degraded = (("", ""), ()) if holder is None or is_standby else _service_trouble(paths.data)
    return Facts(
        platform=sys.platform,
        python=sys.version_info[:3],
        sqlite=sqlite3.sqlite_version_info,
        data=_folder(paths.data),
        temp=_folder(paths.temp),
        loose=tuple(map(str, loose(paths))),
        shared=is_shared(paths),
        foreign=tuple(map(str, foreign(paths))),
        owner=user_name(paths.data.stat().st_uid) if exists(paths.data) else "",
        config_is_open=_secrets_are_open(file or paths.data / FILE_NAME),
        holder=holder,
        is_standby=is_standby,
        capabilities=_capabilities(config),
        sandbox_support=sandbox_support(),
        limits=Machine(paths.temp, groups=find_groups(process=service)).limits(),
        types=tuple(task_type.name for task_type in registry),
        handler_errors=tuple((error.message, error.advice) for error in registry.errors),
        preset_errors=tuple(error.message for error in preset_faults(registry)),
        lacking=_lacking(registry),
        diagnoses=_diagnoses(registry),
        targets_trouble=_targets_trouble(config),
        witnesses=witnesses,
        witnesses_trouble=unread,
        claims=claims,
        claims_trouble=unusable,
        certificate=certificate,
        certificate_trouble=unfit,
        cluster_trouble=_cluster_trouble(config),
        places=_places(config),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        now=datetime.now(UTC),
        last_recorded=last,
        last_writer=writer,
        log_trouble=trouble,
        history_trouble=_history_trouble(paths),
        keys_trouble=_keys_trouble(paths.log),
        service_trouble=refusal,
        service_degraded=degraded,
    )


def _folder(path: Path) -> Folder:
    near = nearest_existing(path)
    trouble, remedy = _trouble(path, near)
    return Folder(
        path=str(path),
        exists=exists(path),
        trouble=trouble,
        remedy=remedy,
        open_to_others=is_dir(path) and bool(path.stat().st_mode & stat.S_IWOTH),
        file_system=_file_system(near),
        free=shutil.disk_usage(near).free,
        files=free_files(near),
    )


def _trouble(path: Path, near: Path) -> tuple[str, str]:
    """Return why a folder cannot be written, and what to do about it."""
    if not is_dir(near):
        return f"{near} is not a folder", "Choose another folder."
    if os.statvfs(near).f_flag & os.ST_RDONLY:
        return f"{near} lies on a file system that is mounted read-only", MOUNT_FOR_WRITING
    if not os.access(near, os.W_OK | os.X_OK):
        return f"{near} may not be written to", "Correct its permissions or choose another folder."
    if near != path:
        return "", ""
    try:
        try_to_write(near)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return f"{path} cannot be written to: {error.strerror}", "Look at `dmesg`, or choose another folder."
    return "", ""


def _file_system(path: Path) -> str:
    """Return the kind of file system at a path; empty if the system does not report it."""
    real = path.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[folder] for folder in (real, *real.parents) if folder in mounts), "")


def _secrets_are_open(file: Path) -> bool:
    try:
        status = file.stat()
        table = tomllib.loads(read_small(file, status.st_size).decode())  # a file that is named may have any size
        readable = bool(status.st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except (OSError, ValueError):
        return False
    smtp = table.get("smtp")
    has_password = isinstance(smtp, dict) and "password" in smtp
    return readable and ("webhook_secret" in table or has_password or bool(table.get("apprise")))


def _targets_trouble(config: Config) -> tuple[str, str]:
    try:
        check_targets(config.apprise)
    except ConfigurationError as error:
        return error.message, error.advice
    return "", ""


def _witnesses(path: Path) -> tuple[tuple[WitnessSeen, ...], tuple[str, str]]:
    """Return the listed witnesses, each connected to briefly, and what is wrong with the list."""
    try:
        named = read_witnesses(path)
    except WitnessesDamaged as error:
        return (), (error.message, error.advice)
    if not named:
        return (), ("", "")
    with ThreadPoolExecutor(len(named)) as pool:
        return tuple(pool.map(_call, named)), ("", "")


def _call(witness: Witness) -> WitnessSeen:
    """Connect to the witness's address, and send nothing."""
    trouble = ""
    try:
        with socket.create_connection(host_and_port(parse_endpoint(witness.url)), _CALL_WITHIN):
            pass
    except (EndpointRefused, OSError) as error:
        trouble = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return WitnessSeen(name=witness.name, url=witness.url, trouble=trouble)


def _holder(lock: Path) -> str | None:
    try:
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read(200).decode(errors="replace").strip() or "an unknown process"
    except OSError:
        pass
    return None


def _capabilities(config: Config) -> Capabilities:
    executor = LocalExecutor(slots=0, homes={}, sandbox=Sandbox(mode=config.sandbox))
    try:
        return executor.capabilities
    finally:
        executor.close(0)


def _cluster_trouble(config: Config) -> tuple[str, str]:
    try:
        if config.executor == "ray":
            check_cluster(config)
    except ConfigurationError as error:
        return error.message, error.advice
    return "", ""


def _places(config: Config) -> tuple[PlaceSeen, ...]:
    """Look at each place of files elsewhere, with the environment of this command."""
    storage = config.storage()
    urls = tuple(dict.fromkeys(filter(is_url, (*config.input_roots, *config.output_roots))))
    if storage is None:
        return ()
    with ThreadPoolExecutor(min(8, len(urls))) as pool:
        return tuple(pool.map(lambda url: _look_at_place(url, storage), urls))


def _look_at_place(url: str, storage: Storage) -> PlaceSeen:
    process = MoverProcess(storage.mover)
    try:
        process.request(Look(url=url, storage=storage))
        deadline = time.monotonic() + _LOOK_WITHIN
        while select.select([process.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            for answer in process.answers():
                if isinstance(answer, Refused):
                    return PlaceSeen(url=url, trouble=answer.message, remedy=answer.remedy)
                return PlaceSeen(url=url, by=answer.by if isinstance(answer, Reached) else "")
        return PlaceSeen(url=url, trouble=f"no answer within {_LOOK_WITHIN:g} s")
    except TasktrailError as error:
        return PlaceSeen(url=url, trouble=error.message, remedy=error.advice)
    finally:
        process.close()


def _service_trouble(data: Path) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Return why the service takes no commands and what to do; else its faults despite which it takes them."""
    try:
        with Client.connect(data) as client:
            return ("", ""), tuple(client.check_ready())
    except TasktrailError as error:
        return (error.message, error.advice), ()


def _last_recorded(path: Path) -> tuple[datetime | None, str, tuple[str, str]]:
    """Return when the last record was written, by which version, and what is wrong with the log."""
    if has_no_log(path):
        return None, "", ("", "")
    version = ""
    try:
        with closing(read_log(path)) as log:
            if (writer := log.newest_writer()) is not None:
                version = writer.version
                if writer.fault:
                    return None, version, (f"{path}: position {writer.position}: {writer.fault}", LogTooNew.remedy)
            last = list(log.read(after=log.head().position - 1, limit=1))
            fault = next(log.file_faults(), None)
            if fault is None:
                for segment in log.segments():
                    next(log.read(segment.first - 1, 1), None)  # reading a missing file raises the error
                refuse_unusable(log, log.head().position)
    except TasktrailError as error:
        return None, version, (error.message, error.advice)
    except sqlite3.Error as error:
        return None, version, (f"{path} cannot be read: {error}", LogCorrupt.remedy)
    trouble = ("", "")
    if fault is not None and fault.code == "newer":
        trouble = (f"{path}: {fault.message}", LogTooNew.remedy)
    elif fault is not None:
        trouble = (f"{path} is damaged: {fault.message}", LogCorrupt.remedy)
    return (last[0].recorded_at if last else None), version, trouble


def _history_trouble(paths: DataPaths) -> tuple[str, str]:
    try:
        refuse_rescued(paths.log)
        refuse_older_log(paths)
    except TasktrailError as error:
        return error.message, error.advice
    except OSError as error:  # the files that hold the evidence cannot be read
        return f"{paths.data} cannot be looked through: {error.strerror}", "Correct its permissions."
    return "", ""


def _keys_trouble(path: Path) -> tuple[str, str]:
    if has_no_log(path):
        return "", ""
    try:
        with closing(read_log(path)) as log:
            log.refuse_lost_keys()
    except KeysUnreadable as error:
        return error.message, error.advice
    except TasktrailError:  # a fault of the log itself, which `_last_recorded` reports
        pass
    return "", ""


def _claims(config: Config) -> tuple[Claims | None, tuple[str, str]]:
    if not config.c2pa_certificate:
        return None, ("", "")
    from ..handlers.manifest_key import read_claims

    try:
        return read_claims(config.c2pa_certificate, config.c2pa_key), ("", "")
    except ConfigurationError as error:
        return None, (error.message, error.advice)


def _certificate(config: Config) -> tuple[Validity | None, tuple[str, str]]:
    if not config.tls_certificate:
        return None, ("", "")
    from cryptography import x509

    try:
        Network.of(config).context()
        own = x509.load_pem_x509_certificate(Path(config.tls_certificate).read_bytes())
    except TasktrailError as error:
        return None, (error.message, error.advice)
    except (OSError, ValueError, x509.InvalidVersion) as error:
        message = f"{config.tls_certificate} cannot be read as a certificate: {error}"
        return None, (message, "Write it as PEM, its own certificate first (BEGIN CERTIFICATE).")
    return Validity(begins=own.not_valid_before_utc, ends=own.not_valid_after_utc), ("", "")


def _lacking(registry: Registry) -> tuple[Lack, ...]:
    """Return the missing packages, grouped by what installs them, so that each group is reported once."""
    found: dict[str, tuple[list[str], set[str]]] = {}
    for task_type in registry:
        if missing := missing_packages(task_type):
            types, packages = found.setdefault(task_type.packages.install or " ".join(missing), ([], set()))
            types.append(task_type.name)
            packages.update(missing)
    return tuple(
        Lack(types=tuple(types), packages=tuple(sorted(packages)), install=install)
        for install, (types, packages) in found.items()
    )


def _diagnoses(registry: Registry) -> tuple[Diagnosis, ...]:
    """Return the diagnoses of the types about this machine, each once."""
    found: dict[Diagnosis, None] = {}
    for task_type in registry:
        if not missing_packages(task_type):
            found |= dict.fromkeys(_diagnoses_of(task_type))
    return tuple(found)


def _diagnoses_of(task_type: TaskType) -> list[Diagnosis]:
    try:
        return list(task_type.diagnoses())
    except Exception as error:  # noqa: BLE001 - foreign code
        message = f"{task_type.name} cannot say what it needs from this machine: {type(error).__name__}: {error}"
        return [Diagnosis("handlers", "fail", message, "Install the packages of the type again.")]

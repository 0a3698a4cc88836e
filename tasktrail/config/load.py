"""Read the configuration: the environment wins over the file, the file over the defaults. Nothing is guessed.

Every key is read by itself, so that an error names the key, the value, where it stands and what is allowed.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import msgspec

from ..actors.secret import Secret
from ..events.errors import ConfigurationError
from ..events.existence import exists
from ..events.log.files import read_small
from ..events.values import WITHOUT_MARK, byte_order_mark
from .settings import TARGET, Config, Rule, Smtp

FILE_NAME = "tasktrail.toml"
ENV_PREFIX = "TASKTRAIL_"
OTHER_VARIABLES = frozenset({"DATA", "URL", "TOKEN", "TOKEN_FILE", "UNENCRYPTED", "CONFIG", "WORKER"})
"""Names after the prefix that the command line and the workers use; they are no keys."""
TARGETS = "apprise."
"""Prefix of the table whose keys the operator names."""
_TARGET_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


class Key(msgspec.Struct, frozen=True):
    """One key: its dotted name, its type, its rule and its default."""

    name: str
    type: Any
    rule: Rule
    default: Any

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENV_PREFIX + self.name.upper().replace(".", "_")


def keys() -> Iterator[Key]:
    """Yield all keys with fixed names in the order of the reference, table by table."""
    for table, struct in (("", Config), ("smtp.", Smtp)):
        for field in msgspec.structs.fields(struct):
            if field.type is Smtp or field.name in (TARGETS[:-1], "file"):
                continue
            made = field.default_factory
            default = field.default if made is msgspec.NODEFAULT else made()
            yield Key(table + field.name, field.type, get_args(field.type)[1].extra["rule"], default)


class Setting(msgspec.Struct, frozen=True):
    """A key's value and where it is set: `default`, the file, or the variable."""

    key: Key
    value: Any
    origin: str


def load_config(data_dir: Path, *, file: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Read the configuration of a data folder. Raises ConfigurationError, which names all that is wrong.

    Args:
        data_dir: the data folder, which may hold `tasktrail.toml`.
        file: read this file instead; it must exist.
        environment: read these variables instead of the process's own.
    """
    found = _settings(data_dir, file, os.environ if environment is None else environment)
    path = (file or data_dir / FILE_NAME).absolute()
    values = {name: setting.value for name, setting in found.items()}
    return _checked(_assembled(values, str(path) if exists(path) else ""))


def settings(
    data_dir: Path, *, file: Path | None = None, environment: Mapping[str, str] | None = None
) -> list[Setting]:
    """List every key with its value in the order of the reference, then the targets.

    The arguments and errors are those of `load_config`.
    """
    load_config(data_dir, file=file, environment=environment)
    found = _settings(data_dir, file, os.environ if environment is None else environment)
    fixed = {setting.key.name: setting for setting in defaults()}
    return list({**fixed, **found}.values())


def defaults() -> list[Setting]:
    """List every key with its default."""
    return [Setting(key, key.default, "default") for key in keys()]


def _settings(data_dir: Path, file: Path | None, environment: Mapping[str, str]) -> dict[str, Setting]:
    keys_by_name = {key.name: key for key in keys()}
    settings_by_name: dict[str, Setting] = {}
    wrong: list[ConfigurationError] = []
    path = file or data_dir / FILE_NAME
    for name, raw in _from_file(path, needed=file is not None).items():
        origin = f"in {path}"
        with _collecting_errors(wrong):
            key = _target(name, origin) or _find(name, keys_by_name, origin)
            settings_by_name[name] = Setting(key, _value(key, raw, origin, text=False), str(path))
    variables = {key.variable: key for key in keys_by_name.values()}
    for variable, raw in environment.items():
        if variable.startswith(ENV_PREFIX) and variable.removeprefix(ENV_PREFIX) not in OTHER_VARIABLES:
            name = variable.removeprefix(ENV_PREFIX).lower().replace("_", ".", 1)
            with _collecting_errors(wrong):
                key = _target(name, "in the environment") or _find(variable, variables, "in the environment")
                settings_by_name[key.name] = Setting(key, _value(key, raw, f"in {variable}", text=True), variable)
    _raise_all(wrong)
    return settings_by_name


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """The result of reading the configuration again."""

    taken: tuple[str, ...] = ()
    """Keys whose new value holds from now on."""
    waiting: tuple[str, ...] = ()
    """Keys whose new value holds from the next start on."""


def with_live_keys(old: Config, new: Config) -> tuple[Config, Reloaded]:
    """Return the old configuration with the new values of the keys that can change while the service runs."""
    before, after = _values(old), _values(new)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    fixed = {key.name for key in keys() if not key.rule.live}
    values = {**after, **{name: value for name, value in before.items() if name in fixed}}
    taken = tuple(name for name in changed if name not in fixed)
    return _assembled(values, new.file), Reloaded(taken=taken, waiting=tuple(name for name in changed if name in fixed))


def _values(config: Config) -> dict[str, Any]:
    """Every key with its value, by its dotted name."""
    fixed = {
        key.name: getattr(config.smtp, key.name[5:]) if "." in key.name else getattr(config, key.name) for key in keys()
    }
    return fixed | {f"{TARGETS}{name}": url for name, url in config.apprise.items()}


def checked(config: object) -> Config:
    """Check a configuration that was made in Python as `load_config` would. Raises ConfigurationError.

    In the result, texts such as `4GiB` have become numbers, and paths texts.
    """
    if not isinstance(config, Config):
        raise ConfigurationError(f"config has to be a Config, not a {type(config).__name__}", field="config")
    if not isinstance(config.smtp, Smtp) or not isinstance(config.apprise, Mapping):
        name, kind = ("apprise", "a dict") if isinstance(config.smtp, Smtp) else ("smtp", "an Smtp")
        raise ConfigurationError(f"{name} of the Config has to be {kind}", field=name)
    given = _values(config)
    values: dict[str, Any] = {}
    wrong: list[ConfigurationError] = []
    for key in keys():
        with _collecting_errors(wrong):
            values[key.name] = _value(key, _plain(given[key.name]), "of the Config", text=False)
    for name, raw in config.apprise.items():
        with _collecting_errors(wrong):
            target = _target(f"{TARGETS}{name}", "of the Config")
            values[f"{TARGETS}{name}"] = _value(target, raw, "of the Config", text=False) if target else raw
    _raise_all(wrong)
    return _checked(_assembled(values, config.file))


def _plain(value: Any) -> Any:
    """The value with paths as texts."""
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@contextmanager
def _collecting_errors(wrong: list[ConfigurationError]) -> Iterator[None]:
    """Collect the error and go on, so that one message names everything that is wrong with a file."""
    try:
        yield
    except ConfigurationError as error:
        wrong.append(error)


def _raise_all(wrong: Sequence[ConfigurationError]) -> None:
    """Raise the only error, or one error that names all of them. Without errors do nothing."""
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        fields = ", ".join(dict.fromkeys(error.field for error in wrong))
        raise ConfigurationError("; ".join(error.message for error in wrong), field=fields)


def _from_file(path: Path, *, needed: bool) -> dict[str, Any]:
    """Return the file's keys, each prefixed with its table. A missing file counts as empty, unless it was named."""
    try:
        # What was named may be a pipe of the shell. What lies in a data folder may have been laid there by another.
        data = path.read_bytes() if needed else read_small(path)
        if mark := byte_order_mark(data):
            raise ConfigurationError(f"{path} cannot be read: {mark}", remedy=WITHOUT_MARK)
        table = tomllib.loads(data.decode())
    except FileNotFoundError:
        if needed:
            raise ConfigurationError(f"{path} does not exist", remedy="Give the path of a TOML file.") from None
        return {}
    except OSError as error:
        remedy = "See that it is a file, and that the user of the service may read it."
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", remedy="Correct the file.") from error
    return dict(_flat(table))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict) and not prefix:
            yield from _flat(value, f"{name}.")
        else:
            yield prefix + name, value


def _target(name: str, origin: str) -> Key | None:
    """Return the key of a notice target; None if the name is not in the table [apprise]."""
    if not name.startswith(TARGETS):
        if name == TARGETS[:-1]:
            raise ConfigurationError(f"{name} {origin} is a table: write its keys below [{name}]", field=name)
        return None
    if not _TARGET_NAME.fullmatch(name.removeprefix(TARGETS)):
        raise ConfigurationError(f"{name} {origin} is no name for a target: allowed is {TARGET.allowed}", field=name)
    return Key(name, Secret, TARGET, Secret(""))


def _find(name: str, keys_by_name: Mapping[str, Key], origin: str) -> Key:
    if name in keys_by_name:
        return keys_by_name[name]
    if any(other.startswith(f"{name}.") for other in keys_by_name):
        raise ConfigurationError(f"{name} {origin} is a table: write its keys below [{name}]", field=name)
    table, _, alone = name.rpartition(".")
    if table and alone in keys_by_name:
        raise ConfigurationError(
            f"There is no key {name} ({origin})",
            field=name,
            remedy=f"{alone} stands above all tables: move its line before the first line in [brackets].",
        )
    near = get_close_matches(name, keys_by_name, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigurationError(f"There is no key {name} ({origin}){hint}", field=name)


def _value(key: Key, raw: Any, origin: str, *, text: bool) -> Any:
    """Convert and check a key's value. From the environment everything is text; lists are separated by commas."""
    rule = key.rule
    given = raw
    try:
        if isinstance(raw, str) and rule.read is not None:
            raw = rule.read(raw)
        elif text and isinstance(key.default, tuple):
            raw = [part.strip() for part in raw.split(",") if part.strip()]
        value = msgspec.convert(raw, key.type, strict=not text, dec_hook=_secret)
        if rule.check is not None:
            for one in value if isinstance(value, tuple) else (value,):
                _check(one, rule)
    except (ValueError, msgspec.ValidationError):
        shown = "its value" if isinstance(key.default, Secret) else repr(given)
        raise ConfigurationError(
            f"{key.name} {origin} cannot be {shown}: allowed is {rule.allowed}", field=key.name
        ) from None
    return value


def _check(value: Any, rule: Rule) -> None:
    text = value.reveal() if isinstance(value, Secret) else value
    if text and rule.check is not None:
        rule.check(text)


def _secret(kind: type[Any], value: Any) -> Any:
    if kind is Secret and isinstance(value, str | Secret):
        return Secret(value) if isinstance(value, str) else value
    raise ValueError(f"not a {kind.__name__}")


def _assembled(values: Mapping[str, Any], file: str) -> Config:
    top = {name: value for name, value in values.items() if "." not in name}
    smtp = {name.removeprefix("smtp."): value for name, value in values.items() if name.startswith("smtp.")}
    targets = {name.removeprefix(TARGETS): url for name, url in values.items() if name.startswith(TARGETS)}
    return Config(**top, smtp=Smtp(**smtp), apprise=targets, file=file)


def _checked(config: Config) -> Config:
    """Check what only two keys together can get wrong, and return the configuration."""
    wrong: list[ConfigurationError] = []
    if config.smtp.host and not config.smtp.sender:
        message = "smtp.host is set, but smtp.sender is not: mail needs a sender"
        wrong.append(ConfigurationError(message, field="smtp.sender"))
    if config.smtp.user and not config.smtp.password:
        wrong.append(ConfigurationError("smtp.user is set, but smtp.password is not", field="smtp.password"))
    if config.temp_low is not None and config.temp_high is not None and config.temp_high < config.temp_low:
        message = (
            f"temp_high ({config.temp_high:,} bytes) is below temp_low ({config.temp_low:,} bytes): "
            "starts stop below temp_low and resume at temp_high, which cannot be lower"
        )
        wrong.append(ConfigurationError(message, field="temp_high"))
    _raise_all(wrong)
    return config

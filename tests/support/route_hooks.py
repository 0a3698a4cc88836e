"""Hooks of schemathesis for `tests/attack/routes.py`. They run in schemathesis's own process.

No hook keeps an answer from being checked. They change requests that could not end, would end the run, or would never
reach a task.
"""

import atexit
import copy
import itertools
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

import schemathesis

FOLDER = Path(os.environ["ROUTES_FOLDER"])
"""The folder of the input and of the outputs."""
OURS = frozenset(os.environ["ROUTES_TOKENS"].split(","))
"""The tokens that identify the run."""
PICTURE = str(FOLDER / "in.png")
PLAIN = "absorb"
"""The type of the tasks that schedules make; one is enough to test them."""
CRON = ["", "30 2 * * *", "*/5 9-17 * * MON-FRI", "0 0 L JAN,JUL *", "15 30 4 1 * *", "0 12 * * FRI#2"]
"""Valid cron expressions, because random texts of five fields seldom name a time."""
ACCEPTED = 202
AT_MOST = 0.05
"""The most seconds of an answer that waits."""
_LONGEST = {"wait": 300.0, "seconds": 86400.0}
_A_PATH = re.compile(r"(/(?!\.\.?(/|$))[^/\0]+)+")
_LONGEST_PATH = 4096
_BETWEEN_FIELDS = ("allOf", "if", "then", "else")
_ONE_OF = 4
"""One of this many repeated command ids is kept."""

answers: Counter[str] = Counter()
known_ids: set[str] = set()
repeated = itertools.count()


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Restate the description in a form that makes schemathesis try more of it."""
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            del operation["responses"]["default"]  # it covers every status, so no missing one would be found
    schemas = raw_schema["components"]["schemas"]
    choices = [
        {**one["then"], "properties": {**one["if"]["properties"], **one["then"]["properties"]}}
        for one in schemas["NewTask"]["allOf"]
    ]
    plain = next(one for one in choices if one["properties"]["type"]["const"] == PLAIN)
    # Where a choice stands beside fields, schemathesis draws both and discards most; so each choice gets all fields.
    task = _joined(schemas["ScheduledTask"], plain)
    schedule = raw_schema["paths"]["/v1/schedules"]["post"]["requestBody"]["content"]["application/json"]
    for holder, key in ((schemas, "AddSchedule"), (schedule, "schema")):
        whole = holder[key]
        whole["properties"]["task"] = task
        whole["properties"]["cron"] = {"enum": CRON}
        by_cron = {**whole["if"], "properties": {**whole["if"]["properties"], **whole["then"]["properties"]}}
        by_interval = {**whole["else"], "properties": {**whole["else"]["properties"], "cron": {"maxLength": 0}}}
        holder[key] = {"oneOf": [_joined(whole, by_cron), _joined(whole, by_interval)]}
    for name in ("CreateTask", "NewTask", "GraphTask"):
        schemas[name] = {"oneOf": [_joined(schemas[name], choice) for choice in choices]}


def _joined(whole: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the whole with those of the choice."""
    joined = copy.deepcopy({name: part for name, part in whole.items() if name not in _BETWEEN_FIELDS})
    for name, rules in choice["properties"].items():
        known = joined["properties"][name]
        joined["properties"][name] = rules if name == "options" or rules == {"type": "null"} else {**known, **rules}
    return {**joined, "required": sorted({*whole["required"], *choice.get("required", ())})}


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """Give half of the inputs, and all of the outputs, names of files that can be read and written."""
    match body:
        case list():
            return [map_body(_context, one) for one in body]
        case dict():
            return {name: _with_file(name, map_body(_context, value)) for name, value in body.items()}
    return body


def _with_file(name: str, value: Any) -> Any:
    if name not in ("input_file", "output_file") or not isinstance(value, str) or len(value) > _LONGEST_PATH:
        return value
    if not _A_PATH.fullmatch(value):
        return value
    number = crc32(value.encode())
    if name == "input_file":
        return PICTURE if number % 2 else value
    return str(FOLDER / f"{{fire_time}}-{number}{('.png', '.jpg', '.mp4', '.gif')[number % 4]}")


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Shorten endless streams and waiting answers, and keep the run's tokens.

    A run without its token finds nothing. Nor does one that repeats command ids that were answered already: few of
    these are kept.
    """
    query = case.query if isinstance(case.query, dict) else {}
    goes_on = str(query.get("follow", "")).lower() in ("true", "1", "on")
    if goes_on and str(query.get("seconds", "null")) == "null":
        query["seconds"] = AT_MOST
    for name, longest in _LONGEST.items():
        if name in query and AT_MOST < _number(query[name]) <= longest:
            query[name] = AT_MOST
    if isinstance(case.body, dict) and str(case.body.get("command_id")) in known_ids and next(repeated) % _ONE_OF:
        case.body["command_id"] = ""
    if case.path.endswith("/revoke") and str(case.path_parameters.get("token")) in OURS:
        case.path_parameters["token"] = "somebody-else"
    for one in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(one, dict) and one.get("command") == "revoke_token" and str(one.get("token")) in OURS:
            one["token"] = "somebody-else"


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return 0.0


@schemathesis.hook
def after_call(_context: Any, case: Any, response: Any) -> None:
    """Count the answers, to check that everything was tried."""
    answers[f"{case.operation.label} {response.status_code}"] += 1
    if response.status_code == ACCEPTED:
        told = response.json()
        known_ids.update(one.get("command_id", "") for one in (told if isinstance(told, list) else [told]))
        known_ids.discard("")


@atexit.register
def _tell() -> None:
    Path(os.environ["ROUTES_COUNTS"]).write_text(json.dumps(answers))

"""Logs with seals, and what somebody does to them who knows how the chain is made."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from forgery import forging
from histories import BEGIN

from tasktrail.events.log.chain import GENESIS, link
from tasktrail.events.log.rows import COLUMNS
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.proof.bundle import prove
from tasktrail.projections.proof.growth import prove_growth
from tasktrail.projections.proof.notes import LogCheckpoint
from tasktrail.projections.proof.seals import SealCheck, make_seal, public_key
from tasktrail.projections.verification import Verification, verify


class Sealed:
    """A log with a long history, and seals of some of its lengths."""

    def __init__(self, folder: Path) -> None:
        self.path, self.seals, self.key_file = folder / "log.db", folder / "seals", folder / "seal-key"

    def seal(self, minutes: int = 0) -> LogCheckpoint:
        with closing(SqliteLogReader(self.path)) as log:
            return make_seal(log, self.seals, self.key_file, BEGIN + timedelta(minutes=minutes))[0].checkpoint

    def checked(self) -> Verification:
        with closing(SqliteLogReader(self.path)) as log:
            return verify(log, seals=SealCheck(self.seals, public_key(self.seals)))

    def proof(self, task_id: int) -> Any:
        with closing(SqliteLogReader(self.path)) as log:
            return json.loads(msgspec.json.encode(prove(log, self.seals, task_id)))

    def growth(self, old: int | Path, new: int | Path | None = None) -> Any:
        with closing(SqliteLogReader(self.path)) as log:
            made = prove_growth(log, self.seals, str(old), None if new is None else str(new))
            return json.loads(msgspec.json.encode(made))

    @property
    def key(self) -> str:
        return public_key(self.seals).text


def chained_anew(path: Path, change: Callable[[list[list[Any]]], None]) -> None:
    """What an insider does, who knows how the chain is made: change rows, and make all hashes anew."""
    with forging(path) as conn:
        names = ", ".join((*COLUMNS, "hash"))
        rows = [list(row) for row in conn.execute(f"SELECT {names} FROM events ORDER BY position")]
        change(rows)
        digest = GENESIS
        for position, row in enumerate(rows, 1):
            row[0] = position
            digest = row[-1] = link(digest, row[:-1])
        conn.execute("DELETE FROM events")
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        conn.executemany(f"INSERT INTO events ({names}) VALUES ({marks})", rows)

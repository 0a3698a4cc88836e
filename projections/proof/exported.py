"""Statements about files exported from a log (in-toto), which name the position and the newest seal."""

from pathlib import Path
from typing import Any

from ...events.errors import LogCorrupt
from ...events.log.log_reader import LogReader
from ...events.recorded import timestamp
from .provenance import signed
from .seals import name_of, newest_seal, private_key

PREDICATE = "urn:tasktrail:export:1"


class ExportSigner:
    """Signs statements of exports with the key of the seals.

    Args:
        log: the log.
        seals: the folder of its seals.
        key_file: the private key.

    Raises:
        SealUnfit: there is no seal yet, or the key is that of another log.
    """

    def __init__(self, log: LogReader, seals: Path, key_file: Path) -> None:
        self._log = log
        self._seals = seals
        newest_seal(seals)  # raises without a seal: then there may be no key yet, and none is made here
        self._key = private_key(key_file, name_of(next(log.read(limit=1))), seals=seals)

    def signed(self, name: str, sha256: str, position: int, query: dict[str, Any], rows: int) -> dict[str, Any]:
        """The statement about a file, in a DSSE envelope.

        Args:
            name: the name of the file.
            sha256: the SHA-256 of all its bytes, in hex.
            position: the position at which the log was exported.
            query: the query that was exported.
            rows: the number of rows in the file.

        Raises:
            LogCorrupt: the log is not as it was written. It is scanned as a whole.
        """
        if (fault := next(self._log.faults(), None)) is not None:
            where = f"position {fault.position}: " if fault.position else ""
            raise LogCorrupt(f"A log that was changed is not signed: {where}{fault.message}")
        record = next(self._log.read(position - 1, 1)) if position else None
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {"sha256": sha256}}],
            "predicateType": PREDICATE,
            "predicate": {
                "log": self._key.public.name,
                "position": position,
                "hash": record.hash.hex() if record else "",
                "recorded_at": timestamp(record.recorded_at) if record else "",
                "query": query,
                "rows": rows,
                "seal": newest_seal(self._seals, self._key.public).description(),
            },
        }
        return signed(statement, self._key)

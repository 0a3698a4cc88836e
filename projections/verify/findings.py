"""What a verification found."""

import msgspec

LIMIT = 1000


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong."""

    position: int
    """Where in the log; for the views, the position they stand at. 0 for what has no position."""
    code: str
    """schema, file, index, epoch, chain, gap, version, time, unreadable, illegal, answer, views,
    snapshot, or missing: another file knows of a record that the log lacks."""
    message: str
    remedy: str = ""
    """What to do about it."""


REMEDIES = {
    "views": "Stop the service and run `tasktrail rebuild`: views are built from the log, which is the truth.",
    "snapshot": "Stop the service and delete the folder `snapshots`: it is made anew.",
    "missing": "Restore the newest backup, or go on without them: `tasktrail serve --accept-loss --reason TEXT`.",
    "index": "Restore a backup, or have SQLite build the indexes again on a copy (`REINDEX`) and verify that.",
}
RESTORE = "Keep the file for whoever looks into it, and restore the newest backup that `tasktrail verify` finds sound."
"""Of all that is wrong with the log itself."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The result. The log is sound when there are no findings; `head` is to be compared with one kept elsewhere."""

    ok: bool
    records: int
    tasks: int
    position: int
    """The last position that could be read."""
    head: str
    """Its hash, in hex."""
    answers: int
    views_position: int | None
    """Where the views stand that were compared with the fold. None: there are none, or the log itself is damaged."""
    findings: tuple[Finding, ...]
    more: int
    """Findings beyond those listed."""


class Findings:
    """Collects what is wrong, up to a number that a person still reads."""

    def __init__(self) -> None:
        self.listed: list[Finding] = []
        self.more = 0

    def add(self, position: object, code: str, message: str) -> None:
        """Note one thing that is wrong. A damaged row may give no number as its position."""
        if len(self.listed) < LIMIT:
            at = position if isinstance(position, int) else 0
            self.listed.append(Finding(position=at, code=code, message=message, remedy=REMEDIES.get(code, RESTORE)))
        else:
            self.more += 1

    def __bool__(self) -> bool:
        return bool(self.listed)

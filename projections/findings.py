"""Findings of checks: what is wrong, where, and what to do about it."""

import msgspec

from ..events.errors import LogTooNew
from ..events.log.archives import PUT_BACK

LIMIT = 1000


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong."""

    position: int
    """The position in the log; for the views, the one that they have reached. 0 if there is none."""
    code: str
    """schema, file, index, epoch, archive, chain, gap, stub, version, time, unreadable, newer, illegal, answer, views,
    snapshot, seal, key (erased data can be read again, or other data cannot be read any more), missing (another file
    knows records that the log lacks, the first of them at the position), or unusable (a service that starts here could
    not follow it)."""
    message: str
    remedy: str = ""
    """What to do about it."""


_CONSEQUENCES = ("stub", "answer")
"""The codes of findings that have no position if something else that was found may be the cause."""
REMEDIES = {
    "views": "Run `tasktrail rebuild`: views are built from the log, which is the truth. The service may go on.",
    "snapshot": "Run `tasktrail rebuild`, or delete the folder `snapshots`: it is made again.",
    "archive": PUT_BACK,
    "newer": LogTooNew.remedy,
    "key": "Put the newest copy of `keys.db`, together with its master key, in its place.",
    "seal": "Keep log and seals as evidence, and compare with a backup: the seals are of another log.",
    "index": "Restore a backup, or have the indexes built again on a copy (`REINDEX`) and verify that.",
}
RESTORE = "Keep the log as evidence, and restore the newest backup that `tasktrail verify` finds sound."
"""The remedy for all faults of the log itself."""


def order(finding: Finding) -> tuple[bool, int]:
    """Return the sort key: first causes without a position, then what has one, then consequences without one."""
    return finding.position == 0 and finding.code in _CONSEQUENCES, finding.position


class Findings:
    """Collects findings, up to a number that a person can still read."""

    def __init__(self) -> None:
        self.listed: list[Finding] = []
        self.more = 0
        self.views_read_more = False
        """Whether the views have personal data of a task that cannot be read in the log."""

    def add(self, position: object, code: str, message: str, remedy: str = "") -> None:
        """Add a finding. The position of a damaged row may not be a number.

        `remedy` replaces that of the code.
        """
        if len(self.listed) < LIMIT:
            at = position if isinstance(position, int) else 0
            remedy = remedy or REMEDIES.get(code, RESTORE)
            self.listed.append(Finding(position=at, code=code, message=message, remedy=remedy))
        else:
            self.more += 1

    def take(self, others: "Findings") -> None:
        """Add the findings of another collection."""
        for one in others.listed:
            self.add(one.position, one.code, one.message, one.remedy)
        self.more += others.more

    def clear(self) -> None:
        """Drop all findings."""
        self.listed.clear()
        self.more, self.views_read_more = 0, False

    def __bool__(self) -> bool:
        return bool(self.listed)

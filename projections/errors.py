"""Errors of views and of seals. None of them touches the truth, which is the log alone."""

from ..events.errors import NotReady, TasktrailError


class ViewsGap(TasktrailError):
    """The given records do not follow the last one applied."""

    code = "views_gap"
    status = 500
    title = "The views have missed records"
    remedy = "The service reads them from the log by itself; ask again."


class ViewsFailed(TasktrailError):
    """SQLite cannot read or write views.db, or another program has replaced it."""

    code = "views_failed"
    status = 503
    title = "The views cannot be used"
    remedy = "Free disk space if the disk is full. You may delete views.db: it is built again from the log."


def views_behind(position: int, trouble: Exception) -> ViewsFailed:
    """The error for views that cannot reach a position because of `trouble`. It has the remedy of that error."""
    if isinstance(trouble, TasktrailError):
        message = f"The views have not reached position {position}: {trouble.message}"
        return ViewsFailed(message, remedy=trouble.advice)
    return ViewsFailed(f"The views have not reached position {position}: {trouble}")


def views_late(position: int, within: float) -> NotReady:
    """The error for views that did not reach a position in time. `within`: the seconds that were waited."""
    return NotReady(f"The views have not reached position {position} within {within:g} s")


class ViewsDamaged(ViewsFailed):
    """The content of views.db is not what was written there."""

    code = "views_damaged"
    title = "The views are damaged"
    remedy = "The service rebuilds them from the log by itself; ask again. Without a service: `tasktrail rebuild`."


class BeyondTheLog(TasktrailError):
    """The request names a position that the log has not reached."""

    code = "beyond_the_log"
    status = 409
    title = "The log does not reach that far"
    remedy = "Use a position up to the end of the log; `tasktrail stats` shows where that is."


class UnknownNotice(TasktrailError):
    """The task has no notice of this name."""

    code = "unknown_notice"
    status = 409
    title = "There is no such notice"
    remedy = "List the task's notices with `tasktrail notices ID`."


class SealUnfit(TasktrailError):
    """A seal, a key or a proof is not valid, or is missing."""

    code = "seal_unfit"
    status = 409
    title = "The seal does not hold"
    remedy = "Take the copies of the seal and the key that were kept away from the log."


class NothingMade(SealUnfit):
    """There is no provenance, because the task has made no file, or its hash was not recorded."""

    code = "nothing_made"
    title = "The task has made no file whose hash is recorded"
    remedy = "See `tasktrail show ID`."


class NotAsSealed(SealUnfit):
    """The log is not the one that a seal describes."""

    code = "not_as_sealed"
    title = "The log is not as it was sealed"
    remedy = "Find out what differs: `tasktrail verify --seals DIR`, with the folder of the seals."


class WitnessExists(TasktrailError):
    """A witness has a key of this name already."""

    code = "witness_exists"
    status = 409
    title = "There is already such a witness"
    remedy = "Remove it first, if it has another address or key now: `tasktrail witness remove NAME`."


class UnknownWitness(TasktrailError):
    """No witness has this name or this address."""

    code = "unknown_witness"
    status = 404
    title = "There is no such witness"
    remedy = "List them with `tasktrail witness list`."


class WitnessesDamaged(TasktrailError):
    """The file with the witnesses was altered. Seals are still made, but no witness is asked."""

    code = "witnesses_damaged"
    status = 503
    title = "The witnesses cannot be read"
    remedy = "Repair the file, or move it away and add the witnesses again with `tasktrail witness add`."


class NoStamp(TasktrailError):
    """A time authority has not stamped a seal."""

    code = "no_stamp"
    status = 503
    title = "The seal was not stamped"
    remedy = "The seal is there. Ask again later with `tasktrail anchor tsa URL`, or name another authority."

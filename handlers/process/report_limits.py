"""Limits on the length of an attempt's reports. They are applied when a report is sent, and when the service gets it.

The attempt's own process cannot stop a handler that writes to the pipes itself. So the service checks each frame,
whichever worker sent it: what is recorded stays in the log for good.
"""

from typing import Any

import msgspec

from ...events.reports import AttemptCheckpointed, AttemptEnded, AttemptProbed, AttemptProgressed
from .channel import GarbageFrame, Retiring

MESSAGE_LIMIT = 500
"""Characters."""
ERROR_LIMIT = 4096
"""Characters."""
CHECKPOINT_LIMIT = 256 * 1024
"""Bytes of JSON."""
RESULT_LIMIT = 64 * 1024
"""Bytes of JSON of the handler's result."""
BASIS_LIMIT = 4096
"""Bytes of JSON of an estimate's basis."""
_ADDED = 16 * 1024
"""Bytes that the worker itself adds to a result: what happened to the original, the manifest's hash."""
_TOOLS_LIMIT = 4096

_encode = msgspec.json.Encoder().encode


def refuse_too_long(frame: Any) -> None:
    """Raise GarbageFrame for a report that exceeds the limits."""
    match frame:
        case AttemptEnded():
            _refuse_end(frame)
        case Retiring():
            _refuse_text("reason", frame.why, ERROR_LIMIT)
            _refuse_end(frame.ended)
        case AttemptProgressed():
            _refuse_text("message", frame.message, MESSAGE_LIMIT)
        case AttemptCheckpointed():
            _refuse_text("message", frame.message, MESSAGE_LIMIT)
            _refuse_text("state of the input", frame.checkpoint.input_state, MESSAGE_LIMIT)
            # The input's state is set after the attempt has measured the checkpoint.
            _refuse_json("checkpoint", msgspec.structs.replace(frame.checkpoint, input_state=""), CHECKPOINT_LIMIT)
        case AttemptProbed():
            _refuse_json("basis of an estimate", frame.estimate.basis, BASIS_LIMIT)


def _refuse_end(ended: AttemptEnded) -> None:
    _refuse_text("message", ended.message, MESSAGE_LIMIT)
    _refuse_text("error", ended.error, ERROR_LIMIT)
    _refuse_text("name of an error", max(ended.error_type, ended.retry_on, key=len), ERROR_LIMIT)
    if ended.result:
        _refuse_json("result", ended.result, RESULT_LIMIT + _ADDED)
    if ended.tools:
        _refuse_json("list of tools", ended.tools, _TOOLS_LIMIT)
    if ended.input_read is not None:
        _refuse_text("hash", ended.input_read.sha256, MESSAGE_LIMIT)
    _refuse_text("hash", ended.output_sha256, MESSAGE_LIMIT)


def _refuse_text(what: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise GarbageFrame(f"a {what} of {len(text)} characters; the limit is {limit}")


def _refuse_json(what: str, value: Any, limit: int) -> None:
    size = len(_encode(value))
    if size > limit:
        raise GarbageFrame(f"a {what} of {size} bytes; the limit is {limit}")

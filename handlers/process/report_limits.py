"""How long what an attempt says may be. Held where it is said, and again where the service hears it.

In the attempt's own process nothing holds against a handler that writes to the pipes itself, so the service looks at
each frame, whichever worker it comes from: what is recorded stays in the log for good.
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
"""Bytes of JSON, of what the handler returns."""
BASIS_LIMIT = 4096
"""Bytes of JSON that say what an estimate was made from."""
_ADDED = 16 * 1024
"""Bytes that the worker itself adds to a result: what became of the original, what the manifest hashes to."""
_TOOLS_LIMIT = 4096

_encode = msgspec.json.Encoder().encode


def refuse_too_long(frame: Any) -> None:
    """Raise GarbageFrame for what no attempt says that keeps to the limits."""
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
            # That state is set after the attempt has measured it.
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

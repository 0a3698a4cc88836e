"""Tells whether two commands with one id are the same."""

from hashlib import sha256

import msgspec
from msgspec.structs import replace

from .operator_commands import Command

_encoder = msgspec.json.Encoder(order="deterministic")


def digest(command: Command) -> bytes:
    """Everything counts but id, actor and reason."""
    bare = replace(command, command_id="", actor="", reason="", correlation_id="")
    return sha256(_encoder.encode(bare)).digest()

"""Command ids: unique, and growing with time so that the log's index of them stays quick."""

import os
import time


def new_command_id() -> str:
    """A fresh id in hex: 48 bits of milliseconds, then 80 random bits (the layout of UUID version 7)."""
    return (time.time_ns() // 1_000_000).to_bytes(6, "big").hex() + os.urandom(10).hex()

"""Full text over type, paths and error: what is indexed of a task, and how a search text is read."""

import re
import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

from ...events import TaskState

Text: TypeAlias = tuple[str, str, str, str]

# Chinese, Japanese and Korean do not put spaces between words; each of their characters is indexed as a word.
_IDEOGRAPH = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff])")


def _spaced(text: str) -> str:
    return text if text.isascii() else _IDEOGRAPH.sub(r" \1 ", text)


def text_of(state: TaskState) -> Text:
    """The words a task is found by. Its message is left out: that changes with every progress."""
    spec = state.spec
    error = state.error or state.last_error
    return _spaced(spec.type), _spaced(spec.input_file), _spaced(spec.output_file), _spaced(error)


def write_text(conn: sqlite3.Connection, changes: Sequence[tuple[int, Text | None, Text]]) -> None:
    """Index (id, old text, new text). The index keeps no texts, so it must be told what to take out."""
    conn.executemany(
        "INSERT INTO search (search, rowid, type, input_file, output_file, error) VALUES ('delete', ?, ?, ?, ?, ?)",
        [(task_id, *old) for task_id, old, _new in changes if old is not None],
    )
    conn.executemany(
        "INSERT INTO search (rowid, type, input_file, output_file, error) VALUES (?, ?, ?, ?, ?)",
        [(task_id, *new) for task_id, _old, new in changes],
    )


def match_expression(search: str) -> str:
    """The search text in FTS5's language: every word must begin a word of the task. Empty when no word is in it.

    Words are quoted, so nothing a user types is an operator.
    """
    words = [_spaced(word) for word in search.replace("\0", " ").split() if any(map(str.isalnum, word))]
    return " ".join('"' + word.replace('"', '""') + '"*' for word in words)

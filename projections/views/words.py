"""The words by which tasks are found, divided as the text index (FTS5) divides them."""

import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import lru_cache

import msgspec

# Chinese, Japanese and Korean do not put spaces between words; each of their characters is indexed as a word.
_IDEOGRAPH = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff])")


def spaced(text: str) -> str:
    """The text as it is indexed."""
    return _IDEOGRAPH.sub(r" \1 ", text)


def match_expression(search: str) -> str:
    """The search text in FTS5's language: every word must begin a word of the task. Empty if it has no word.

    Words are quoted, so that no user input acts as an operator.
    """
    return " ".join(map(_beginning, _words(search)))


def _beginning(word: str) -> str:
    return '"' + word.replace('"', '""') + '"*'


_WORDS = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.indexed_words USING fts5vocab (main, search, instance)"
_NEXT = "SELECT term FROM temp.indexed_words WHERE term >= ? LIMIT 1"


def narrowed_expression(conn: sqlite3.Connection, search: str) -> str:
    """The same, for the index of today's words. A beginning that one word alone has becomes this word.

    FTS5 can then name its first task at once, and counts them in half the time: it need not join any lists.
    """
    conn.execute(_WORDS)
    phrases = []
    for word in _words(search):
        *before, begins = _folded(word).split() or [""]
        found = _word_from(conn, begins)
        if not begins or not found.startswith(begins) or _word_from(conn, f"{found}\1").startswith(begins):
            phrases.append(_beginning(word))
        else:
            phrases.append(f'"{" ".join((*before, found))}"')
    return " ".join(phrases)


def _word_from(conn: sqlite3.Connection, bound: str) -> str:
    """The first word in the index from a text on; empty if there is none. No word has a character below U+0002."""
    return "".join(term for (term,) in conn.execute(_NEXT, (bound,)).fetchall())


def _words(search: str) -> list[str]:
    return [spaced(word) for word in search.replace("\0", " ").split() if any(map(str.isalnum, word))]


# --- the same test on a row: to find whether one task has a beginning of words, the index reads all that have it ---


class _Texts(msgspec.Struct, gc=False):
    """The texts of a task that never change."""

    type: str
    input_file: str = ""
    output_file: str = ""


class _Errors(msgspec.Struct, gc=False):
    error: str = ""
    last_error: str = ""


_TEXTS = msgspec.json.Decoder(_Texts)
_ERRORS = msgspec.json.Decoder(_Errors)
_ASCII = map(chr, range(128))
_PLAIN = bytes(ord(char.lower() if char.isalnum() or char == "\n" else " ") for char in _ASCII) + bytes(128)
_FOLDS: dict[int, str] = {code: chr(_PLAIN[code]) for code in range(128)}
"""Character → what the index makes of it: itself without case and accent, nothing, or a space between words."""
_MOST_FOLDS = 100_000
"""How many characters are kept, 200 bytes each: more than languages use, and far fewer than there are."""
_LEARN = """
CREATE VIRTUAL TABLE texts USING fts5 (text, content='', columnsize=0);
CREATE VIRTUAL TABLE words USING fts5vocab (texts, instance);
"""


def has_words(search: str, spec: str, state: str | None) -> bool:
    """Whether the index finds a task by `match_expression(search)`, from its row. Without a state: by its fixed texts.

    A function of SQL. Raises `msgspec.DecodeError` if the row is damaged.
    """
    own = _TEXTS.decode(spec)
    texts = [own.type, own.input_file, own.output_file]
    if state is not None and 'error":' in state:
        errors = _ERRORS.decode(state)
        texts.append(errors.error or errors.last_error)
    text = "\n ".join(texts)
    if text.count("\n") >= len(texts):
        text = "\n ".join(text.replace("\n", " ") for text in texts)
    lines = " " + _folded(text)
    wanted = _patterns(search)
    return bool(wanted) and all(pattern.search(lines) for pattern in wanted)


@lru_cache(maxsize=64)
def _patterns(search: str) -> Sequence[re.Pattern[str]]:
    words = (_folded(word).split() for word in _words(search))
    return [re.compile(" " + " +".join(map(re.escape, word))) for word in words if word]


def _folded(text: str) -> str:
    if text.isascii():
        return text.encode().translate(_PLAIN).decode()
    text = spaced(text)
    unknown = set(map(ord, text)).difference(_FOLDS)
    if not unknown:
        return text.translate(_FOLDS)
    learnt = _learnt(unknown)
    if len(_FOLDS) + len(learnt) <= _MOST_FOLDS:
        _FOLDS.update(learnt)
    return text.translate(_FOLDS | learnt)


def _learnt(characters: Iterable[int]) -> dict[int, str]:
    """Ask the index itself: which characters it knows as letters depends on the version of SQLite."""
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.executescript(_LEARN)
        texts = ((character, f"a{chr(character)}a") for character in characters)
        conn.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", texts)
        found = conn.execute("SELECT doc, term FROM words WHERE offset = 0").fetchall()
    return {character: first[1:-1] if len(first) > 1 else " " for character, first in found}

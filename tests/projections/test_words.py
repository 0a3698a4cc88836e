"""The words of a task are found in its row as the text index finds them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.events import Created
from tasktrail.events.state import create
from tasktrail.projections.views import words
from tasktrail.projections.views.checksums import teach
from tasktrail.projections.views.rows import COLUMNS, add_texts, standing, to_insert
from tasktrail.projections.views.schema import create_tables
from tasktrail.projections.views.words import match_expression, narrowed_expression

_ODD = "aAzZ09_-./ \"'*^:()\t\n\0éÉßİıſKåΩдЖ会议ガ゛가ﷺⅷ½²٣ªᵃﬁ😀\u0301\u0308\u0345\u200d\u00a0\u2028\ue000\U0001e900"
_texts = st.text(st.sampled_from(_ODD), max_size=12) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@pytest.fixture(scope="module")
def views() -> Iterator[sqlite3.Connection]:
    with closing(teach(sqlite3.connect(":memory:", isolation_level=None))) as conn:
        create_tables(conn)
        yield conn


@given(texts=st.tuples(_texts, _texts, _texts, _texts), search=_texts, cut=st.integers(0, 12), begin=st.integers(0, 12))
@example(texts=("a", "cafe\u0301.mp4", "", ""), search="café.m", cut=0, begin=0)
@example(texts=("a", "(\u0301e", "", ""), search="e", cut=0, begin=0)
@example(texts=("a", "one/two", "three", ""), search="one_two_three", cut=0, begin=0)
@example(texts=("a", "one\ntwo", "", ""), search="one-two", cut=0, begin=0)
@example(texts=("a", "", "", "no such codec"), search="codec such", cut=0, begin=0)
@example(texts=("a", "会议记录.mp4", "", ""), search="议记", cut=0, begin=0)
def test_a_row_has_the_words_by_which_the_index_finds_it(
    views: sqlite3.Connection, texts: tuple[str, str, str, str], search: str, cut: int, begin: int
) -> None:
    kind, source, output, error = texts
    state = create(1, Created(type=kind, input_file=source, output_file=output), datetime(2026, 1, 1, tzinfo=UTC))
    later = replace(state, status="failed", last_error=error) if cut % 2 else replace(state, error=error)
    own = " ".join(texts)[begin : begin + cut]
    row = dict(zip(COLUMNS, to_insert(later, standing(later, 1)), strict=True))
    views.execute("BEGIN")
    add_texts(views, [later, replace(state, id=2, error=own)])
    for text in (search, own, f"{own} {search}", *own.split()):
        ((in_row,),) = views.execute("SELECT has_words(?, ?, ?)", (text, row["spec"], row["state"]))
        wanted = match_expression(text)
        hits = views.execute("SELECT rowid FROM search WHERE search MATCH ?", (wanted,)).fetchall() if wanted else []
        assert bool(in_row) == ((1,) in hits)
        if wanted:
            narrowed = (narrowed_expression(views, text),)
            assert views.execute("SELECT rowid FROM search WHERE search MATCH ?", narrowed).fetchall() == hits
    views.execute("ROLLBACK")


def test_of_more_characters_than_languages_use_no_more_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """All there are take 200 MB, and whoever may search could have them all kept."""
    monkeypatch.setattr(words, "_FOLDS", {code: words._FOLDS[code] for code in range(128)})
    monkeypatch.setattr(words, "_MOST_FOLDS", 130)
    spec = '{"type":"noop","input_file":"Éß-Åé会.mp4"}'
    for search, found in (("éß", True), ("åÉ", True), ("会", True), ("éå", False)):
        assert words.has_words(search, spec, None) == found, search
    assert len(words._FOLDS) <= 130


def test_without_a_state_only_texts_that_never_change_are_searched(views: sqlite3.Connection) -> None:
    spec, state = '{"type":"noop","input_file":"clip.mp4"}', '{"last_error":"no such codec"}'
    found = [
        views.execute("SELECT has_words(?1, ?2, ?3), has_words(?1, ?2, NULL)", (word, spec, state)).fetchone()
        for word in ("clip", "codec", "clip codec")
    ]
    assert found == [(1, 1), (1, 0), (1, 0)]

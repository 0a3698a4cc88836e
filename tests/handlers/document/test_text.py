"""Plain text and Markdown as pages."""

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFont, features

from tasktrail.handlers import Finished, Rejected, Unusable
from tasktrail.handlers.document import fonts, markdown, text
from tasktrail.handlers.document.fonts import Face, Ruler, font_file
from tasktrail.handlers.document.markdown import BODY, PAGE_MARGIN, Block, markdown_blocks
from tasktrail.handlers.document.pages import A4
from tasktrail.handlers.document.text import TextPages, read_text, text_blocks, text_lines, wrap

Prepare = Callable[..., Any]
Draw = Callable[[Any], Any]

WORDS = "Fünf Ärger, ça va, Привет, Ελλάδα\nsecond line"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes | str], Path]:
    def make(content: bytes | str, name: str = "in.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


@pytest.mark.parametrize(
    "data",
    [
        WORDS.encode(),
        codecs.BOM_UTF8 + WORDS.encode(),
        codecs.BOM_UTF16_LE + WORDS.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + WORDS.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + WORDS.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + WORDS.encode("utf-32-be"),
        WORDS.replace("\n", "\r\n").encode(),
        WORDS.replace("\n", "\r").encode(),
    ],
)
def test_text_is_read_in_every_encoding_that_shows_itself(data: bytes, write: Callable[..., Path]) -> None:
    assert read_text(write(data)) == WORDS


def test_text_that_is_not_utf_8_is_taken_for_that_of_windows(write: Callable[..., Path]) -> None:
    assert read_text(write("Ärger".encode("latin-1"))) == "Ärger"
    assert read_text(write("„Ärger“ – 3 €".encode("cp1252"))) == "„Ärger“ – 3 €"
    assert read_text(write("Ärger".encode("latin-1") + b"\x81")).startswith("Ärger")


def test_control_characters_become_spaces_and_tabs_reach_the_next_stop(write: Callable[..., Path]) -> None:
    assert text_lines(read_text(write("a\x1b[1mb\n\tc\td"))) == ["a [1mb", "    c   d"]


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("bits", [16, 32])
def test_wide_text_with_a_mark_is_taken_for_text(
    bits: int, order: str, write: Callable[..., Path], prepare: Prepare, draw: Draw
) -> None:
    data = f"\ufeff{WORDS}".encode(f"utf-{bits}-{order}")
    assert isinstance(draw(prepare(write(data))), Finished)


@pytest.mark.parametrize("data", [b"", b" \n ", b"a\0b" * 10, b"a" * 2000 + b"\0"])
def test_what_is_not_text_is_refused(data: bytes, write: Callable[..., Path], prepare: Prepare, draw: Draw) -> None:
    assert isinstance(draw(prepare(write(data))), Rejected)


def test_a_text_beyond_the_limit_is_refused(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_MAX_TEXT", 100)
    assert read_text(write("a" * 100))
    with pytest.raises(Unusable, match="more than"):
        read_text(write("a" * 101))


def test_a_long_text_has_as_many_pages_as_it_needs(write: Callable[..., Path], prepare: Prepare, draw: Draw) -> None:
    lines = 150
    outcome = draw(prepare(write("\n".join(f"line {number}" for number in range(lines))), pages="all"))
    a_page = int((A4[1] - 2 * PAGE_MARGIN) / 13)
    assert outcome.result["source_pages"] == -(-lines // a_page)


def test_a_page_ends_where_the_text_says_so(write: Callable[..., Path]) -> None:
    """As in the texts of RFCs. Marks around the whole text make no empty pages."""
    blocks = list(text_blocks(read_text(write("\fone\n\f\ntwo\nthree\n\ffour\n\f\n"))))
    assert [block.text for block in blocks if block.new_page] == ["two", "four"]
    assert "".join(block.text for block in blocks) == "onetwothreefour"
    assert TextPages(write("\fone\n\f\ntwo\nthree\n\ffour\n\f\n"), markdown=False).count == 3
    assert TextPages(write("one\f\n\n\f\ftwo"), markdown=False).count == 4
    assert TextPages(write("\n\f\n\fone\n \f\n"), markdown=False).count == 1
    assert TextPages(write("one\ftwo"), markdown=True).count == 1


@pytest.mark.parametrize(("lines", "most", "pages"), [(58, BODY, 3), (60, 9.8, 3), (66, 8.9, 3), (67, BODY, 6)])
def test_the_pages_of_a_printer_stay_whole(lines: int, most: float, pages: int, write: Callable[..., Path]) -> None:
    """Pages of 60 lines became two each, the second with two lines."""
    text = "\n\f".join("\n".join(f"line {number}" for number in range(lines)) + "\n" for _ in range(3))
    assert most - 0.2 < max(block.size for block in text_blocks(text)) <= most
    assert TextPages(write(text), markdown=False).count == pages


@pytest.mark.skipif(Ruler("plain").lacks("ש") or not Ruler("mono").lacks("ש"), reason="needs the fonts DejaVu")
def test_a_line_that_only_the_proportional_font_can_show_is_set_in_it(write: Callable[..., Path]) -> None:
    path = write("a\nשלום\nÄ 漢\n")
    assert [block.face for block in text_blocks(read_text(path))][:3] == ["mono", "plain", "mono"]
    assert TextPages(path, markdown=False).notes([1]) == ["1 character has no glyph in the font and is drawn as boxes"]


def test_a_page_shows_ink_where_its_lines_are_and_nowhere_else(
    write: Callable[..., Path], prepare: Prepare, draw: Draw
) -> None:
    context = prepare(write("WWWW\n" * 10), dpi=72)
    draw(context)
    with Image.open(context.output_file) as picture:
        box = picture.convert("L").point(lambda value: 255 if value < 200 else 0).getbbox()
    assert box is not None
    left, top, right, bottom = box
    assert PAGE_MARGIN - 2 <= left < PAGE_MARGIN + 4
    assert PAGE_MARGIN - 2 <= top < PAGE_MARGIN + 10
    assert right < PAGE_MARGIN + 40
    assert PAGE_MARGIN + 9 * 13 < bottom < PAGE_MARGIN + 10 * 13


@pytest.mark.parametrize("dpi", [30, 72, 100, 300])
def test_lines_stay_inside_the_margin_at_every_resolution(
    dpi: int, write: Callable[..., Path], prepare: Prepare, draw: Draw
) -> None:
    context = prepare(write("W" * 400), dpi=dpi)
    draw(context)
    with Image.open(context.output_file) as picture:
        box = picture.convert("L").point(lambda value: 255 if value < 200 else 0).getbbox()
        assert box is not None
        assert box[2] < picture.width * (A4[0] - PAGE_MARGIN / 3) / A4[0]


def test_on_dark_paper_the_ink_is_bright(write: Callable[..., Path], prepare: Prepare, draw: Draw) -> None:
    context = prepare(write("WWWW\n" * 10), dpi=72, background="#101020")
    draw(context)
    with Image.open(context.output_file) as picture:
        assert picture.convert("L").getextrema() == pytest.approx((17, 230), abs=5)


def wrapped(text: str, width: float) -> list[str]:
    steps = list(map(Ruler("mono").width, text))
    return [text[start:end] for start, end in wrap(text, width, steps)]


@pytest.mark.parametrize("text", ["", " ", "a b c", "x" * 1000, "a " * 500, "  two  spaces  " * 30, "漢字" * 200])
def test_wrapped_lines_fit_and_lose_no_character(text: str) -> None:
    ruler = Ruler("mono")
    lines = wrapped(text, 20)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(sum(map(ruler.width, line.rstrip())) <= 20.001 for line in lines)


def test_lines_are_broken_at_spaces_where_there_are_any() -> None:
    width = sum(map(Ruler("mono").width, "one two"))
    assert wrapped("one two three", width + 0.01) == ["one two", "three"]


def shown(text: str) -> list[Block]:
    return list(markdown_blocks(text))


def test_markdown_headings_are_bold_and_larger_than_text() -> None:
    first, second, body = shown("# One #\n\nTwo\n---\n\nbody")
    assert [block.text for block in (first, second, body)] == ["One", "Two", "body"]
    assert (first.face, second.face, body.face) == ("bold", "bold", "plain")
    assert first.size > second.size > body.size


def test_markdown_lines_of_a_paragraph_and_of_an_item_are_joined() -> None:
    blocks = shown("one\ntwo\n\n- first\n  goes on\n- second\n  - deeper\n3. third")
    assert [block.text for block in blocks] == ["one two", "• first goes on", "• second", "• deeper", "3. third"]
    assert blocks[0].indent < blocks[1].indent == blocks[2].indent < blocks[3].indent


def test_markdown_code_stays_as_written() -> None:
    blocks = shown("text\n```python\n# no heading\n  *x*\n```\n`code` and **bold** [link](http://x)")
    assert [(block.text, block.face) for block in blocks] == [
        ("text", "plain"),
        ("# no heading", "mono"),
        ("  *x*", "mono"),
        ("code and bold link", "plain"),
    ]


def test_markdown_facts_before_the_text_stay_as_written() -> None:
    for mark, facts, end in (
        ("---", "title: A *b*\n\ntags: [c]", "---"),
        ("---", "# of the page\ntitle: A", "..."),
        ("+++", "title = 'A'", "+++"),
    ):
        blocks = shown(f"{mark}\n{facts}\n{end}\n# Heading\n")
        lines = [(line, "mono") for line in facts.split("\n")]
        assert [(block.text, block.face) for block in blocks] == [*lines, ("Heading", "bold")]
    rule, text, last = shown("---\nno facts\n\n---")
    assert (rule.rule, text.face, last.rule) == (True, "plain", True)


def test_markdown_emphasis_code_and_links_have_a_style_of_their_own() -> None:
    (block,) = shown("a **b** *c* `d*` [e](http://x) __f [g](y)__ snake_case_name 2*3*4")
    assert block.text == "a b c d* e f g snake_case_name 2*3*4".replace("2*3*4", "234")
    assert block.styles.startswith("ppbpipmmpupbbup")
    assert len(block.styles) == len(block.text)
    (heading,) = shown("# The `code` of it")
    assert (heading.text, heading.styles) == ("The code of it", "bbbbmmmmbbbbbb")


def test_markdown_is_read_as_common_mark() -> None:
    text = r"""
one \*two\* &amp; <b>
three\
four [ref] [![badge](x)](y)

[ref]: http://x

1. first

   its second paragraph
1. second
   > quoted
-
- ```
  code
  ```
"""
    blocks = shown(text)
    assert [block.text for block in blocks] == [
        "one *two* & <b> three",
        "four ref badge",
        "1. first",
        "its second paragraph",
        "2. second",
        "quoted",
        "•",
        "•",
        "code",
    ]
    assert blocks[1].styles == "ppppp" + "uuu" + "p" + "uuuuu"
    assert blocks[2].indent == blocks[3].indent < blocks[5].indent
    assert blocks[0].before > blocks[1].before == 0


def test_a_paragraph_of_very_many_characters_stays_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "_LONGEST", 15)
    assert [block.text for block in shown("*some*\n*text*\n\n*some more*\n*text*")] == [
        "some text",
        "*some more* *text*",
    ]


def test_markdown_styles_look_different(write: Callable[..., Path]) -> None:
    """As far as the machine has a font for each."""

    def look(text: str) -> bytes:
        return TextPages(write(text, "in.md"), markdown=True).draw(1, 1.0, "#ffffff").tobytes()

    faces: dict[str, Face] = {"words": "plain", "**words**": "bold", "*words*": "italic", "`words`": "mono"}
    assert len({look(text) for text in faces}) == len({font_file(face) for face in faces.values()})
    assert look("[words](x)") != look("words")


def test_markdown_tables_have_columns() -> None:
    rows = shown("| Name | Size |\n|---|--:|\n| a | 5 |\n| **long** name | 1234 |\n| b \\| c |\n| d | e \\| |")
    assert [block.text for block in rows] == [
        "Name       Size",
        "─────────  ────",
        "a             5",
        "long name  1234",
        "b | c",
        "d           e |",
    ]
    assert {block.face for block in rows} == {"mono"}


def test_a_wide_markdown_table_is_set_smaller() -> None:
    narrow, wide = shown("| a | b |\n|--|--|")[0], shown("|" + "a column |" * 16 + "\n|" + "--|" * 16)[0]
    assert narrow.size > wide.size >= 5


@pytest.mark.parametrize(
    "text",
    [
        "|" * 100_000,
        "| x\n" * 5000,
        "|" + "y" * 100_000 + "|\n|-|\n" + "|x|\n" * 1000,
        "|" + "y" * 50 + "|" * 38 + "\n|" + "-|" * 39 + "\n" + "|\n" * 5000,
        "|a" * 5000 + "|\n" + "|-" * 5000 + "|\n" + "|\n" * 5000,
    ],
)
def test_no_table_takes_more_room_than_it_has(text: str) -> None:
    assert sum(len(block.text) for block in shown(text)) < 3 * len(text) + 100_000


def test_characters_without_a_glyph_are_counted(write: Callable[..., Path], prepare: Prepare, draw: Draw) -> None:
    drawable = WORDS if font_file("plain") else "without any font there is ASCII"
    for name in ("in.txt", "in.md"):
        result = draw(prepare(write("漢字 and \U0001f9ff words\n", name))).result
        assert result["notes"] == ["3 characters have no glyph in the font and are drawn as boxes"]
        assert "notes" not in draw(prepare(write(drawable, name))).result


def test_scripts_that_run_to_the_left_are_drawn_so_or_named_in_the_notes(
    write: Callable[..., Path], prepare: Prepare, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write("שלום abc")
    shaped = TextPages(source, markdown=False)
    for can in (True, False):
        monkeypatch.setattr(fonts, "can_shape", lambda can=can: can)
        monkeypatch.setattr("tasktrail.handlers.document.text.can_shape", lambda can=can: can)
        notes = draw(prepare(source, f"out{can}.png")).result.get("notes", [])
        assert any("run to the left" in note for note in notes) == (not can)
    if features.check("raqm"):
        plain = shaped.draw(1, 1.0, "#ffffff")
        monkeypatch.undo()
        drawn = bool(fonts.can_shape() and font_file("plain"))  # the built-in font has no letter that runs to the left
        assert (shaped.draw(1, 1.0, "#ffffff").tobytes() != plain.tobytes()) == drawn


def test_markdown_quotes_and_rules_are_shown() -> None:
    quote, rule = shown("> said\n***")
    assert quote.text == "said"
    assert quote.indent > 0
    assert rule.rule


@pytest.mark.parametrize(
    "text", ["**" * 20_000, "[" * 20_000, "x" + "`" * 20_001, "#" * 20_000, "- " * 20_000, "_ " * 10_000]
)
def test_no_markdown_takes_long(text: str) -> None:
    assert shown(text)


def test_a_markdown_file_is_known_by_its_suffix(write: Callable[..., Path], prepare: Prepare, draw: Draw) -> None:
    assert draw(prepare(write("# Hello", "in.md"))).result["source_format"] == "markdown"
    assert draw(prepare(write("# Hello", "in.txt"))).result["source_format"] == "text"


def test_without_any_font_of_the_system_the_built_in_one_is_used(
    write: Callable[..., Path], prepare: Prepare, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "font_file", lambda _face: None)
    assert isinstance(fonts.load_font("mono", 20), ImageFont.FreeTypeFont)
    context = prepare(write("Hello **World**\n" * 5, "in.md"), width=300)
    assert isinstance(draw(context), Finished)
    with Image.open(context.output_file) as picture:
        darkest, _ = picture.convert("L").getextrema()
    assert isinstance(darkest, int)
    assert darkest < 100


def test_every_page_of_a_text_can_be_drawn(write: Callable[..., Path]) -> None:
    pages = TextPages(write("line\n" * 200), markdown=False)
    blank = Image.new("RGB", pages.draw(1, 0.2, "#ffffff").size, "#ffffff")
    assert all(pages.draw(number, 0.2, "#ffffff") != blank for number in range(1, pages.count + 1))


@pytest.mark.parametrize(
    "text",
    [
        "[a]: <b>\n" * 50_000 + "\n" + "a " * 50_000,
        "__a " * 50_000,
        "*a " * 50_000,
        "[" * 50_000 + "](" * 50_000,
        "![" * 20_000 + "](x)" * 20_000,
        "# a" + " " * 300_000 + "a",
        "|a|b|\n|-|-|\n" + "| __a | `b |\n" * 20_000,
        pytest.param("> " * 19 + "a\n" * 20_000, marks=pytest.mark.slow),
        "- a\n" * 20_000,
    ],
    ids=["definitions", "underscores", "stars", "brackets", "images", "heading", "table", "quotes", "items"],
)
def test_the_work_on_markdown_grows_with_its_length_and_not_faster(text: str) -> None:
    """Quadratic work would take many minutes on each of these."""

    assert sum(len(block.text) for block in shown(text)) > 30_000


@pytest.mark.parametrize(
    ("text", "styles"),
    [
        ("__a b__", "bbb"),
        ("__a __ b__", "bbbbbb"),
        ("__a *b* c__", None),
        ("**a** *b*", "bpi"),
        ("*a **b", None),
        ("__a__b__", "bbbb"),
        ("`a*b` *c*", "mmmpi"),
        ("![x](y) [*z*](u)", "upu"),
    ],
)
def test_marks_end_where_common_mark_ends_them(text: str, styles: str | None) -> None:
    (found,) = shown(text)

    assert len(found.text) == len(found.styles)
    if styles is not None:
        assert found.styles == styles

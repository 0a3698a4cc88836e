"""Texts and Markdown as HTML, which LibreOffice sets on pages. It names no other file: LibreOffice would read it."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from .markdown import FRONT_MATTER, new_parser

_STYLE = """
@page { size: 21cm 29.7cm; margin: 2cm }
body, h1, h2, h3, h4, h5, h6, td, th { font-family: "Liberation Sans", "DejaVu Sans", sans-serif }
body, td, th { font-size: 10pt }
pre, code { font-family: "Liberation Mono", "DejaVu Sans Mono", monospace; font-size: 9pt }
"""
_PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head><body>{body}</body></html>
"""
_NEXT_PAGE = ' style="page-break-before: always"'
_LONGEST = 20_000
"""The most characters of a line of a plain text: LibreOffice sets one in a time that grows faster than its length."""
_FOLLOWED = ("http://", "https://", "mailto:")
"""The beginnings of addresses that a link in a PDF may have: any other would lead to a file beside the HTML."""


def text_html(text: str, title: str) -> str:
    """A plain text, in the fixed-width font. A form feed begins a page."""
    text = "\n".join(piece for line in text.split("\n") for piece in _pieces(line))
    first, *others = (page.removesuffix("\n") for page in text.removesuffix("\f").split("\f"))
    body = _lines(first) + "".join(map(_on_next_page, others))
    return _PAGE.format(title=escape(title), style=_STYLE, body=body)


def _pieces(line: str) -> Iterator[str]:
    """The line, cut behind a space if it is very long: on the page, where it is broken anyway, that is hardly seen."""
    begin = 0
    while len(line) - begin > _LONGEST:
        end = line.rfind(" ", begin + _LONGEST // 2, begin + _LONGEST) + 1 or begin + _LONGEST
        yield line[begin:end]
        begin = end
    yield line[begin:]


def _lines(text: str) -> str:
    return f"<pre>\n{escape(text)}</pre>"  # the line end behind <pre> is not part of the text


def _on_next_page(text: str) -> str:
    """The lines of a page. LibreOffice takes each line for a paragraph, and only the first may begin a page."""
    line, _, rest = text.partition("\n")
    begin = f"<pre{_NEXT_PAGE}>{escape(line) or '&nbsp;'}</pre>"  # without a character it would be left out
    return begin + _lines(rest) if rest else begin


def markdown_html(text: str, title: str) -> str:
    """Markdown, with the text of its pictures in their place."""
    parser = new_parser()
    parser.add_render_rule("image", _picture)
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("link_close", _end_of_link)
    parser.add_render_rule("table_open", _table)
    matter = FRONT_MATTER.match(text)
    facts = f"<pre>{escape(matter[2])}</pre>" if matter else ""
    body = parser.render(text[matter.end() :] if matter else text)
    return _PAGE.format(title=escape(title), style=_STYLE, body=facts + body)


def _picture(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType) -> str:
    return escape(renderer.renderInlineAsText(tokens[place].children, options, env))


def _link(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType) -> str:
    """The beginning of a link. It notes for the end of it, which comes next as links are not nested, what it was."""
    env["follows"] = str(tokens[place].attrGet("href") or "").lower().startswith(_FOLLOWED)
    return renderer.renderToken(tokens, place, options, env) if env["follows"] else ""


def _end_of_link(
    renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType
) -> str:
    return renderer.renderToken(tokens, place, options, env) if env["follows"] else ""


def _table(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: Any) -> str:
    for name, value in (("border", "1"), ("cellspacing", "0"), ("cellpadding", "3")):  # it heeds no style here
        tokens[place].attrSet(name, value)
    return renderer.renderToken(tokens, place, options, env)

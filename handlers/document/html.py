"""Texts and Markdown as HTML, which LibreOffice sets on pages. It names no other file: LibreOffice would read it."""

from collections.abc import Sequence
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
_FOLLOWED = ("http://", "https://", "mailto:")
"""The beginnings of addresses that a link in a PDF may have: any other would lead to a file beside the HTML."""


def text_html(text: str, title: str) -> str:
    """A plain text, in the fixed-width font. A form feed begins a page."""
    pages = text.removesuffix("\f").split("\f")
    body = "".join(f"<pre{_NEXT_PAGE * (number > 0)}>{escape(page)}</pre>" for number, page in enumerate(pages))
    return _PAGE.format(title=escape(title), style=_STYLE, body=body)


def markdown_html(text: str, title: str) -> str:
    """Markdown, with the text of its pictures in their place."""
    parser = new_parser()
    parser.add_render_rule("image", _picture)
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("link_close", _link)
    parser.add_render_rule("table_open", _table)
    matter = FRONT_MATTER.match(text)
    facts = f"<pre>{escape(matter[2])}</pre>" if matter else ""
    body = parser.render(text[matter.end() :] if matter else text)
    return _PAGE.format(title=escape(title), style=_STYLE, body=facts + body)


def _picture(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType) -> str:
    return escape(renderer.renderInlineAsText(tokens[place].children, options, env))


def _link(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: EnvType) -> str:
    opening = _opening(tokens, place)
    address = str(opening.attrGet("href") or "") if opening else ""
    if not address.lower().startswith(_FOLLOWED):
        return ""
    return renderer.renderToken(tokens, place, options, env)


def _opening(tokens: Sequence[Token], place: int) -> Token | None:
    """The token with which the link at a place begins. Links are not nested."""
    return next((token for token in reversed(tokens[: place + 1]) if token.type == "link_open"), None)


def _table(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: Any) -> str:
    for name, value in (("border", "1"), ("cellspacing", "0"), ("cellpadding", "3")):  # it heeds no style here
        tokens[place].attrSet(name, value)
    return renderer.renderToken(tokens, place, options, env)

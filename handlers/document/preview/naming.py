"""The names of the pages' files: a pattern with parts in braces, in the syntax of a batch's outputs."""

import re
from string import Formatter

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")
"""Line breaks and signs that control a terminal, which no list of files can show."""
_FORMAT = re.compile("0?[0-9]{0,2}")
_LEAST_DIGITS = 3
_LONGEST = 240
"""Bytes of a name without its suffix."""


class PageNames:
    """One pattern, such as `{stem}-{page}`."""

    def __init__(self, pattern: str) -> None:
        """Raises ValueError for a pattern that is invalid, or gives all pages the same name."""
        if "/" in pattern or _CONTROL.search(pattern) or pattern.startswith("."):
            raise ValueError(
                f"page_name is a plain name, without slashes, line breaks or a dot in front, not {pattern!r}"
            )
        self._parts = list(Formatter().parse(pattern))
        for _text, name, spec, conversion in self._parts:
            if name is None:
                continue
            if name not in ("page", "stem") or conversion or not _FORMAT.fullmatch(spec or ""):
                raise ValueError(f"page_name has {{page}}, {{page:04}} and {{stem}} in braces, not {{{name}}}")
            if name == "stem" and spec:
                raise ValueError("page_name: {stem} takes no number of digits")
        if all(name != "page" for _text, name, _spec, _conversion in self._parts):
            raise ValueError(f"page_name needs {{page}}, or all pages would be called {pattern!r}")

    def of(self, number: int, last: int, stem: str) -> str:
        """The name of page `number`, without a suffix; `last` is the highest number.

        Raises ValueError if it would be too long.
        """
        digits = max(_LEAST_DIGITS, len(str(last)))
        name = "".join(
            text + ("" if part is None else stem if part == "stem" else format(number, spec or f"0{digits}"))
            for text, part, spec, _conversion in self._parts
        )
        if len(name.encode(errors="surrogateescape")) > _LONGEST:
            raise ValueError(f"page_name gives names of more than {_LONGEST} bytes with this document's name")
        return name

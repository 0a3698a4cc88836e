"""One mail address. A text may hold several, and then a notice would go to people nobody meant.

The standard library's parser falls over its own feet on odd texts (`<`, `.:`), so a pattern decides: plain ASCII
addresses, with or without a name before them; no quoted local parts, no comments, no groups.
"""

import re
from email.headerregistry import Address

_WORD = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = rf"({_WORD}(?:\.{_WORD})*)@({_LABEL}(?:\.{_LABEL})*)"
_NAMED = rf"([^<>@,;:\"\\()\[\]]*?)\s*<{_PLAIN}>"
_LONGEST = 254


def one_address(text: str) -> Address:
    """The one address in a text. Raises ValueError for none, several, or anything that could become a header."""
    stripped = text.strip(" ")
    if not stripped.isprintable() or len(stripped) > _LONGEST:
        raise ValueError("A mail address is one short line")
    if "=?" in stripped:
        # Mail programs, and the library that writes our headers, read `=?utf-8?q?=61?=` as another text than it shows.
        raise ValueError("A mail address must not hold an encoded word (=?…?=)")
    if match := re.fullmatch(_PLAIN, stripped):
        return Address(username=match[1], domain=match[2])
    if match := re.fullmatch(_NAMED, stripped):
        return Address(display_name=match[1], username=match[2], domain=match[3])
    raise ValueError("This is not one plain mail address")

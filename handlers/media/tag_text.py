"""Tags of files as text that can be written and shown."""


def plain_text(text: str) -> str:
    """The text with a mark for each byte that is not UTF-8. PyAV 19 puts lone surrogates there, PyAV 18 such marks."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

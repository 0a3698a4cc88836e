"""A number and the word that goes with it: 1 task, 2 tasks."""


def counted(number: int, one: str, many: str = "") -> str:
    """The number and its word: `one` after 1, else `many`, which is `one` with an s by default."""
    return f"{number} {plural(number, one, many)}"


def plural(number: float, one: str, many: str = "") -> str:
    """The word alone: for verbs, and for a number that is formatted in another way."""
    return one if number == 1 else many or f"{one}s"

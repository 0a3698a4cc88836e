"""A number and the word that goes with it: 1 task, 2 tasks."""


def counted(number: int, one: str, many: str = "") -> str:
    """The number and its word: `one` after 1, else `many`; without that, `one` with an s."""
    return f"{number} {plural(number, one, many)}"


def plural(number: float, one: str, many: str = "") -> str:
    """The word alone, for a number that is written in another way, and for verbs."""
    return one if number == 1 else many or f"{one}s"

"""HEIC, where the optional package `pillow-heif` is installed (tasktrail[heic])."""

from importlib.util import find_spec

HEIC_SUFFIXES = (".heic", ".heif")


def has_heic() -> bool:
    """Whether the package is there. Looks only; nothing is loaded."""
    return find_spec("pillow_heif") is not None

"""Where a handler lives, in one string. Apart from the registry, which a worker has no need to load."""

from functools import reduce
from importlib import import_module
from typing import Any


def resolve(home: str) -> Any:
    """The module `package.module`, or the object `package.module:name.name`."""
    module, _, path = home.partition(":")
    return reduce(getattr, path.split(".") if path else [], import_module(module))

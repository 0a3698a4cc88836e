"""Packages that a type imports and that may not be there: tasktrail alone is the queue, without what its types need."""

from importlib.util import find_spec

from .contract import Packages, TaskType
from .errors import PackageMissing

MEDIA = "tasktrail[media]"
_found: set[str] = set()
"""What was there once stays; what was not may be installed while we run."""


def media(*modules: str) -> Packages:
    """Those of a built-in type."""
    return Packages(modules=modules, install=MEDIA)


def missing_packages(task_type: TaskType) -> tuple[str, ...]:
    """Those that an attempt would import and that are not installed. Looks only; nothing is loaded."""
    missing = []
    for name in task_type.packages.modules:
        if name not in _found and find_spec(name) is None:
            missing.append(name)
        else:
            _found.add(name)
    return tuple(missing)


def require_packages(task_type: TaskType) -> None:
    """Raises PackageMissing, with what to install."""
    if missing := missing_packages(task_type):
        wanted = task_type.packages.install or " ".join(missing)
        raise PackageMissing(
            f"{task_type.name} needs packages that are not installed: {', '.join(missing)}",
            field="type",
            remedy=f"Install {wanted} in the environment that the service runs in.",
        )

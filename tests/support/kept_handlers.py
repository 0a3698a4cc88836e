"""The types of `sample_handlers`, all of whose attempts may share a process: where they are sandboxed, it is kept."""

import sample_handlers
from msgspec.structs import replace

from tasktrail.handlers.contract import declared

for _name, _value in vars(sample_handlers).items():
    if (_type := declared(_value)) is not None:
        globals()[_name] = replace(_type, needs_folder=False)

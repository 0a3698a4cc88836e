"""The list of a log's witnesses: a file in the data folder, beside the key of the seals.

It is not part of the log, and is read anew for each seal.
"""

from pathlib import Path

import msgspec

from ...events.log.files import read_small
from ..errors import SealUnfit, UnknownWitness, WitnessesDamaged, WitnessExists
from .notes import WitnessKey
from .seals import alone, write_durably


class Witness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A witness, which is asked to sign each seal, too."""

    url: str
    """The address to which `add-checkpoint` is appended."""
    key: str
    """`NAME+HASH+KEY`."""

    @property
    def name(self) -> str:
        """The name of its key. Raises `SealUnfit`."""
        return WitnessKey(self.key).name


def read_witnesses(path: Path) -> tuple[Witness, ...]:
    """The witnesses in the file; none if there is no file. Raises `WitnessesDamaged`."""
    try:
        witnesses = msgspec.json.decode(read_small(path), type=tuple[Witness, ...])
        for one in witnesses:
            WitnessKey(one.key)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise WitnessesDamaged(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, SealUnfit) as error:
        raise WitnessesDamaged(f"{path} is not what `tasktrail witness` has written: {error}") from error
    return witnesses


def add_witness(path: Path, witness: Witness) -> None:
    """Add a witness, which is asked from the next seal on.

    Raises:
        SealUnfit: its key is not valid.
        WitnessExists: there is a witness with a key of this name.
        WitnessesDamaged: the file cannot be read.
        OSError: it cannot be written.
    """
    name = witness.name
    with alone(path.parent):
        found = read_witnesses(path)
        if there := next((one for one in found if one.name == name), None):
            raise WitnessExists(f"There is a witness {name} already, at {there.url}", field="key")
        _write(path, (*found, witness))


def remove_witnesses(path: Path, name_or_url: str) -> tuple[Witness, ...]:
    """Remove the witness of this name, or all at this address; returns the removed ones.

    Raises:
        UnknownWitness: there is no such witness.
        WitnessesDamaged: the file cannot be read.
        OSError: it cannot be written.
    """
    with alone(path.parent):
        witnesses = read_witnesses(path)
        removed = tuple(one for one in witnesses if name_or_url in (one.name, one.url))
        if not removed:
            raise UnknownWitness(f"There is no witness {name_or_url}", field="witness")
        _write(path, tuple(one for one in witnesses if one not in removed))
    return removed


def _write(path: Path, witnesses: tuple[Witness, ...]) -> None:
    write_durably(path, msgspec.json.format(msgspec.json.encode(witnesses)) + b"\n")

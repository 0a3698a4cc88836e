"""Check a statement that `tasktrail provenance --out` has written: with securesystemslib, and without tasktrail.

    pip install 'securesystemslib[crypto]'
    python check_provenance.py STATEMENT FILE KEY

Take KEY from whoever runs the log on another way than the file. Exit code 0: the log says so of FILE; 4: it does not.
"""

import base64
import hashlib
import json
import os
import sys
from pathlib import Path

try:
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey
except ImportError:
    sys.exit("This needs a library: pip install 'securesystemslib[crypto]'")


def once(pairs: list[tuple[str, object]]) -> dict:
    """An object of JSON. Raises an error where a name stands twice: readers differ on which of the two counts."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def opened(path: Path) -> Envelope:
    """The envelope in a file. Raises an error for one that is written otherwise than it would be."""
    said = json.loads(path.read_text(), object_pairs_hook=once)
    for text in (said["payload"], *(one["sig"] for one in said["signatures"])):
        if base64.b64encode(base64.b64decode(text)).decode() != text:  # other letters may stand for the same bytes
            raise ValueError("base64 has another form")
    return Envelope.from_dict(said)


def digest_of(made: Path) -> str:
    """The SHA-256 of a file; of a folder that of what `sha256sum *` prints in it."""
    if not made.is_dir():
        with made.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(made.iterdir())
    if not all(one.is_file() and "\n" not in one.name for one in files):  # such a name could read as several files
        raise ValueError("the folder holds more than plain files, or a name with a line end")
    return hashlib.sha256(os.fsencode("".join(f"{digest_of(one)}  {one.name}\n" for one in files))).hexdigest()


def checked(statement: Path, file: Path, key: str) -> dict:
    """What was signed of the file. Raises an error unless all of it holds."""
    if key.count("+") < 2:
        raise ValueError("this is no key for seals: give NAME+HASH+KEY itself")
    name, _hash, public = key.split("+", 2)
    raw = base64.b64decode(public)
    if raw[:1] != b"\x01":
        raise ValueError("the key is of another kind than Ed25519")
    envelope = opened(statement)
    envelope.verify([SSlibKey(name, "ed25519", "ed25519", {"public": raw[1:].hex()})], threshold=1)
    said = json.loads(envelope.payload)
    if (
        envelope.payload_type != "application/vnd.in-toto+json"
        or said["predicateType"] != "https://slsa.dev/provenance/v1"
    ):
        raise ValueError("what was signed is no statement of provenance")
    (subject,) = said["subject"]
    if subject["digest"] != {"sha256": digest_of(file)}:
        raise ValueError("the file is not the one that the statement is about")
    return said["predicate"]


def show(text: str) -> None:
    """Print a line in ASCII: what was signed must neither steer the terminal nor put in lines."""
    print(ascii(text)[1:-1])


try:
    found = checked(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError, VerificationError) as error:
    show(f"NOT shown: {error}")
    sys.exit(4)
run, built = found["runDetails"], found["buildDefinition"]
show(f"made by {run['metadata']['invocationId']} ({built['externalParameters']['type']})")
for source in built["resolvedDependencies"]:
    show(f"from {source['uri']}, sha256 {source.get('digest', {}).get('sha256', 'not recorded')}")
beside = {one["name"]: one["annotations"] for one in run["byproducts"]}
show(f"recorded at position {beside['log']['position']}")
if seal := beside.get("seal"):
    show(f"sealed with {seal['size']} records, {seal['sealed_at']}, root {seal['root']}")

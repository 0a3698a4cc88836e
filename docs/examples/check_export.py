"""Check a file that `tasktrail export --sign` has written: with securesystemslib, and without tasktrail.

    pip install 'securesystemslib[crypto]'
    python check_export.py FILE KEY

Take KEY from whoever runs the log on another way than the file. Exit code 0: it is as it was signed; 4: it is not.
"""

import base64
import hashlib
import json
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


def checked(file: Path, key: str) -> dict:
    """What was signed of the file. Raises an error unless all of it holds."""
    if key.count("+") < 2:
        raise ValueError("this is no key for seals: give NAME+HASH+KEY itself")
    name, _hash, public = key.split("+", 2)
    raw = base64.b64decode(public)
    if raw[:1] != b"\x01":
        raise ValueError("the key is of another kind than Ed25519")
    envelope = opened(Path(f"{file}.intoto.json"))
    envelope.verify([SSlibKey(name, "ed25519", "ed25519", {"public": raw[1:].hex()})], threshold=1)
    statement = json.loads(envelope.payload)
    if (
        envelope.payload_type != "application/vnd.in-toto+json"
        or statement["predicateType"] != "urn:tasktrail:export:1"
    ):
        raise ValueError("what was signed is no statement of an export")
    (subject,) = statement["subject"]
    with file.open("rb") as exported:
        digest = hashlib.file_digest(exported, "sha256").hexdigest()
    if subject["digest"] != {"sha256": digest}:
        raise ValueError("the file is not the one that was signed")
    if subject["name"] != file.name:
        raise ValueError(f"the file was signed under the name {subject['name']}")
    return statement["predicate"]


def show(text: str) -> None:
    """Print a line in ASCII: what was signed must neither steer the terminal nor put in lines."""
    print(ascii(text)[1:-1])


try:
    said = checked(Path(sys.argv[1]), sys.argv[2])
except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError, VerificationError) as error:
    show(f"NOT as it was signed: {error}")
    sys.exit(4)
query, seal = said["query"], said["seal"]
show(f"{said['rows']} rows of {said['log']}, as of position {said['position']} of {said['recorded_at']}")
print(f"asked for: {json.dumps(query)}")  # ASCII already
show(f"newest seal then: {seal['size']} records, {seal['sealed_at']}, root {seal['root']}")

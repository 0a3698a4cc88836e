"""Check that a log has only grown since a seal that you have kept, with nothing but Python's standard library.

    python check_growth.py GROWTH.json KEPT.note KEY

GROWTH.json is what `tasktrail prove --from KEPT.note` has written; check_proof.py has to lie beside this file. It shows
that all the records of the kept seal are the first ones of the newer seal, as they were. Exit code 0: proven; 4: not.
"""

import argparse
import json
import sys
from hashlib import sha256

from check_proof import decoded, named, need, opened


def need_growth(old, old_root, new, new_root, path):
    """Raise ValueError unless the tree of `old` leaves is the beginning of the other (RFC 9162, 2.1.4.2)."""
    need(0 < old <= new and all(len(part) == 32 for part in path), "the proof has another form")
    if old == new:
        need(not path and old_root == new_root, "the seals have seen other records")
        return
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    # A complete old tree is a part of the new one by itself.
    from_old = from_new = path[0] if first else old_root
    for part in path[1:] if first else path:
        need(last > 0, "the proof is too long")
        if first & 1 or first == last:
            from_old, from_new = (sha256(b"\1" + part + root).digest() for root in (from_old, from_new))
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            from_new = sha256(b"\1" + from_new + part).digest()
        first, last = first >> 1, last >> 1
    need(last == 0, "the proof is too short")
    need(from_old == old_root and from_new == new_root, "the log is not the one that was sealed before")


def check(growth, kept, key):
    """What the two seals say. Raises ValueError, or what else a wrong form leads to."""
    need(growth["format"] == "tasktrail growth 1", "this is no proof of growth, or one of another version")
    old, new = opened(kept, key), opened(growth["seal"], key)
    need(old[0] == new[0], "the seals are of two logs")
    begin = growth["old"]
    need(repr(begin) == repr(old[1]), f"it begins with a seal of {begin} records, and that of {old[1]} was named")
    path = [decoded(text) for text in growth["path"].copy()]  # .copy(): "" is no list
    need_growth(old[1], old[2], new[1], new[2], path)
    return old, new


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("growth", help="the file that `tasktrail prove --from` has written")
    parser.add_argument("kept", help="the earlier seal, as you have kept it")
    parser.add_argument("key", help="NAME+HASH+KEY, as `tasktrail seal` shows it")
    asked = parser.parse_args()
    try:
        with open(asked.growth, encoding="utf-8") as growth, open(asked.kept, encoding="utf-8", newline="") as kept:
            old, new = check(json.loads(growth.read(1 << 28), object_pairs_hook=named), kept.read(1 << 20), asked.key)
    except Exception as why:  # noqa: BLE001 - whatever it is, nothing is proven
        print(f"NOT PROVEN: {why!r}", file=sys.stderr)
        return 4
    print(f"proven: the {old[1]} records of {old[5]} are the first of the {new[1]} records of {new[5]}, of {new[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

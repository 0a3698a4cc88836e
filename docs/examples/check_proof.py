"""Check a proof that `tasktrail prove` has written, with nothing but Python's standard library.

    python check_proof.py PROOF.json KEY [--since 2026-11-27T00:00:00Z]

It shows that these records are all that the log had of a task when it was sealed, from the first to the last. Take KEY
from whoever runs the log on another way than the proof. Exit code 0: proven; 4: not.
"""

import argparse
import base64
import json
import re
import sys
from hashlib import sha256, sha512

P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT_OF_MINUS_ONE = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P)
POSITION, TASK, VERSION, EVENT, TIME, ACTOR, REASON, DATA = 0, 1, 2, 3, 4, 5, 6, 13
FORM = [int, int, int, str, str, str, str, str, str, str, int, int, int, str]
NUMBER, HASH, WHEN = "(0|[1-9][0-9]{0,18})", "([A-Za-z0-9+/]{43}=)", "(2[0-9-]{9}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"
NAMES = "format hashes records seal task", "after path row", "id path", "format old path seal"
SEAL = re.compile(rf"(\S+)\n{NUMBER}\n{HASH}\ntasks {NUMBER} {HASH}\ntime {WHEN}\n")


def need(held, why):
    if not held:
        raise ValueError(why)


def decoded(text):
    need(base64.b64encode(base64.b64decode(text, validate=True)).decode() == text, "base64 has another form")
    return base64.b64decode(text)


def named(pairs):
    need(" ".join(sorted(name for name, _ in pairs)) in NAMES, "a name stands twice, is missing, or is none of a proof")
    return dict(pairs)


# Ed25519 (RFC 8032): a point is x, y, z, t.
def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number, p):
    q = times(number >> 1, add(p, p)) if number else (0, 1, 1, 0)
    return add(q, p) if number & 1 else q


def point(raw):
    sign, y = divmod(int.from_bytes(raw, "little"), 1 << 255)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x * ROOT_OF_MINUS_ONE % P if (x * x - square) % P else x
    need(len(raw) == 32 and y < P and (x * x - square) % P == 0 and (x or not sign), "a point is not on the curve")
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


def is_signed(key, message, signature):
    s = int.from_bytes(signature[32:], "little")
    need(len(signature) == 64 and s < ORDER, "a signature is written wrongly")
    number = int.from_bytes(sha512(signature[:32] + key + message).digest(), "little") % ORDER
    left = times(s, point((4 * pow(5, -1, P) % P).to_bytes(32, "little")))
    right = add(point(signature[:32]), times(number, point(key)))
    return all((left[side] * right[2] - right[side] * left[2]) % P == 0 for side in (0, 1))


def opened(note, key):
    """What the key has signed: origin, size, root, tasks, root of the tasks, time."""
    name, named, text = (*key.strip().split("+", 2), "", "")[:3]
    short = sha256(name.encode() + b"\n" + (raw := decoded(text))).digest()[:4]
    need(raw[:1] == b"\1" and short.hex() == named, "this is no key for seals: give NAME+HASH+KEY itself")
    body, _, signatures = note.rpartition("\n\n")
    need(re.fullmatch(r"(— \S+ \S{7,}\n)+", signatures), "the seal has another form")
    for whose, found in [(whose, decoded(line)) for whose, line in re.findall(r"(\S+) (\S+)\n", signatures)]:
        if (whose, found[:4]) == (name, short):
            need(is_signed(raw[1:], (body + "\n").encode(), found[4:]), "the signature is none of this seal")
            origin, size, root, tasks, tasks_root, time = SEAL.fullmatch(body + "\n").groups()
            need(origin == name, "this is the seal of another log than the key is for")
            return origin, int(size), base64.b64decode(root), int(tasks), base64.b64decode(tasks_root), time
    raise ValueError("the seal is not signed with this key")


def root_of(leaf, index, size, path):
    """The root of a tree with this leaf (RFC 9162, 2.1.3.2)."""
    need(0 <= index < size, "a leaf is not within its tree")
    last, root = size - 1, sha256(b"\0" + leaf).digest()
    for part in path:
        need(last > 0 and len(part) == 32, "a path is too long")
        if index & 1 or index == last:
            root = sha256(b"\1" + part + root).digest()
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            root = sha256(b"\1" + root + part).digest()
        index, last = index >> 1, last >> 1
    need(last == 0, "a path is too short")
    return root


def check(proof, key):
    """Origin, time and records that are proven. Raises ValueError, or what else a wrong form leads to."""
    need(proof["format"] == "tasktrail proof 1", "this is no proof, or one of another version")
    origin, size, root, tasks, tasks_root, time = opened(proof["seal"], key)
    hashes, rows, last = [decoded(text) for text in proof["hashes"].copy()], [], b""  # .copy(): "" is no list
    places = [place for part in (*proof["records"], proof["task"]) for place in part["path"].copy()]
    in_order = proof["records"] and [*dict.fromkeys(map(repr, places))] == [*map(repr, range(len(hashes)))]
    need(in_order and len({*hashes}) == len(hashes), "there is no record, or the hashes have another form")
    for version, record in enumerate(proof["records"], 1):
        row, after = record["row"], bytes.fromhex(record["after"])
        # Lengths and types are part of what is proven: another cut of the same bytes would be another record.
        right = [type(value) for value in row] == FORM and len(after) == 32 and after.hex() == record["after"]
        right = right and repr(row[TASK]) == repr(proof["task"]["id"])
        need(right and row[VERSION] == version, "a record has another form or task, or one is missing")
        parts = [value.encode() if type(value) is str else b"%d" % value for value in row]
        last = sha256(after + b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()
        found = root_of(last, row[POSITION] - 1, size, [hashes[place] for place in record["path"]])
        need(found == root, f"the record at {row[POSITION]} is not in the log")
        rows.append(row)
    leaf = b"%d %d %s" % (rows[0][TASK], len(rows), last.hex().encode())
    found = root_of(leaf, rows[0][TASK] - 1, tasks, [hashes[place] for place in proof["task"]["path"]])
    need(found == tasks_root, "the task has more records, or others")
    return origin, time, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("proof", help="the file that `tasktrail prove` has written")
    parser.add_argument("key", help="NAME+HASH+KEY, as `tasktrail seal` shows it")
    parser.add_argument("--since", default="", help="refuse a seal of before this time, as 2026-11-27T00:00:00Z")
    asked = parser.parse_args()
    try:
        with open(asked.proof, encoding="utf-8") as file:
            origin, time, rows = check(json.loads(file.read(1 << 28), object_pairs_hook=named), asked.key)
        need(re.fullmatch(f"|{WHEN}", asked.since) and time >= asked.since, f"a seal of {time}, --since {asked.since}")
    except Exception as why:  # noqa: BLE001 - whatever it is, nothing is proven
        print(f"NOT PROVEN: {why!r}", file=sys.stderr)
        return 4
    for row in rows:
        print(*(ascii(row[column])[1:-1] for column in (TIME, EVENT, ACTOR, REASON, DATA)), sep="\t")
    print(f"proven: these are all {len(rows)} records of task {rows[0][TASK]} of {origin}, as of {time}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Hold the service to its own description: every route, every role, by schemathesis with all of its checks.

PYTHONPATH=tests/support python tests/attack/routes.py --seconds 1800 --seed 7

A real service with a token of each role gets requests that /openapi.json allows, and requests that it forbids. Broken
promises: an answer of 5xx to anything at all; 400 to a valid request; success for an invalid one; an answer that
differs from the description; access without a token; a task of one user shown to another; a traceback on standard
error; a log that does not verify. All checks count, none is left out.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import httpx
import msgspec
from PIL import Image
from served import served

from tasktrail import Client
from tasktrail.events.system_events import Role

SUPPORT = Path(__file__).parent.parent / "support"
FULL, SHORT = 1800, 20
"""Seconds, for all roles together."""
MORE = 120
"""Seconds that schemathesis may take beyond its time to finish what it has begun."""
EXPECTED = ("2xx", "403", "404", "409", "413", "422")
"""The possible answers to a valid request.

schemathesis has 401, 429 and 5xx in this list; here each token is valid, no rate is set, and nothing fails. It lacks
413 and 422: a task may need more than it could ever get, and no schema can express that two fields contradict each
other, or what a task type checks by itself."""
REFUSED = ("400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428")
"""The possible answers to an invalid one: schemathesis has 5xx in this list, and lacks 413 for one that is too long."""
WHOLE_LOG, LONGEST = ("GET /v1/verify", "POST /v1/rebuild"), 60
"""Questions that read the whole log, which grows by thousands of records a minute here, may take that many seconds."""
UNSLOWED = "from tasktrail.http import pace; pace.LONGEST_WAIT = 0.0; from tasktrail.__main__ import main; main()"
"""The service without its delay after wrong credentials, which are tried on each route, twice."""


class Asks(msgspec.Struct, frozen=True):
    """The asker: a role, or two users who must not see each other's tasks."""

    role: Role
    users: tuple[int | None, ...] = (None,)
    share: float = 0.15
    """The share of the time."""


WHO = (
    Asks("admin", share=0.35),
    Asks("operator", share=0.2),
    Asks("submitter", users=(7, 8), share=0.2),
    Asks("auditor", share=0.1),
    Asks("reader"),
)


@contextmanager
def serving(folder: Path, errors: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a service with task types that need no files; return the address of its port."""
    config = folder / "serve.toml"
    config.write_text(
        'workers = 2\nhandlers = ["wild_handlers"]\nmax_memory = "512MiB"\nrate_limit = 0\n'
        'log_level = "error"\ngrace_period = 0.2\n'
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SUPPORT), os.environ.get("PYTHONPATH", "")))}
    program = ("-c", UNSLOWED)
    with served(folder / "data", errors, "--config", str(config), program=program, environment=environment) as running:
        yield running


class Run(msgspec.Struct, frozen=True):
    """The findings of one run of schemathesis."""

    answers: Counter[str]
    """`GET /v1/tasks 200` → how often."""
    findings: list[str]

    @property
    def routes(self) -> set[str]:
        """Return the routes that were asked."""
        return {one.rpartition(" ")[0] for one in self.answers}

    @property
    def agreed(self) -> set[str]:
        """Return the routes that accepted at least one request."""
        return {one.rpartition(" ")[0] for one in self.answers if one.rpartition(" ")[2].startswith("2")}


def ask(who: Asks, tokens: dict[str, str], address: str, folder: Path, *, seconds: float, seed: int) -> Run:
    """Let schemathesis ask as one role."""
    own = folder / who.role
    own.mkdir()
    description = own / "openapi.json"
    shown = {"authorization": f"Bearer {tokens[names_of(who)[0]]}"}
    description.write_bytes(httpx.get(f"{address}/openapi.json", headers=shown, trust_env=False).content)
    known = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {tokens[name]}"}]}
        for name in names_of(who)
    ]
    (own / "auth.json").write_text(json.dumps({"auth": known}))
    peers = f"peers = {json.dumps(names_of(who))}\n" if len(known) > 1 else ""
    # With several users schemathesis makes up a third one, when both may not.
    expected = [*EXPECTED, "401"] if peers else EXPECTED
    (own / "schemathesis.toml").write_text(
        f"hooks = {json.dumps(str(SUPPORT / 'route_hooks.py'))}\n"
        f"[auth.wfc]\npath = {json.dumps(str(own / 'auth.json'))}\n{peers}"
        f"[checks.positive_data_acceptance]\nexpected-statuses = {json.dumps(expected)}\n"
        f"[checks.negative_data_rejection]\nexpected-statuses = {json.dumps(REFUSED)}\n"
        f"[[operations]]\ninclude-name = {json.dumps(WHOLE_LOG)}\nchecks.max_response_time = {LONGEST}\n"
    )
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(own / "schemathesis.toml"), "--no-color"]
    command += ["run", str(description), "--url", address, "--checks", "all", "--continue-on-failure"]
    command += ["--seed", str(seed), "--max-time", str(max(1, round(seconds)))]
    command += ["--request-timeout", str(LONGEST), "--generation-database", "none"]
    command += [] if peers else ["--header", f"Authorization: {shown['authorization']}"]
    environment = {
        **os.environ,
        "ROUTES_FOLDER": str(folder / "files"),
        "ROUTES_TOKENS": ",".join(tokens),
        "ROUTES_COUNTS": str(own / "answers.json"),
    }
    said = own / "said.txt"
    with said.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, cwd=own, env=environment)
        try:
            code = process.wait(seconds + MORE)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.kill()
            process.wait()
    text = said.read_text(errors="replace")
    counts = own / "answers.json"
    answers = Counter(json.loads(counts.read_text())) if counts.exists() else Counter()
    ended = "has not ended in time" if code is None else f"ends with {code}"
    findings = [] if code == 0 else [f"{who.role}: schemathesis {ended}\n{_shortened(text)}"]
    return Run(answers, findings)


def names_of(who: Asks) -> list[str]:
    """Return the names of a role's tokens."""
    return [who.role if user is None else f"{who.role}-{user}" for user in who.users]


def add_tokens(client: Client) -> dict[str, str]:
    """Name → token."""
    until = datetime.now(UTC) + timedelta(days=1)
    return {
        name: client.add_token(name, who.role, user_id=user, expires_at=until)
        for who in WHO
        for name, user in zip(names_of(who), who.users, strict=True)
    }


def _shortened(text: str) -> str:
    """Return the text; a long line, as a generated body is, is cut to its beginning."""
    return "\n".join(line[:1000] for line in text.splitlines())[-40_000:]


def told(who: Asks, run: Run, seconds: float) -> str:
    """Print one line."""
    statuses = Counter[str]()
    for one, number in run.answers.items():
        statuses[one.rpartition(" ")[2]] += number
    counts = ", ".join(f"{number} × {status}" for status, number in sorted(statuses.items()))
    agreed = f"{len(run.agreed)} of {len(run.routes)} routes said yes"
    return f"{who.role}: {sum(statuses.values())} requests in {seconds:.0f} s, {agreed} ({counts})"


def main() -> int:
    """Return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"{SHORT} seconds for all roles together")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, help=f"for all roles together; {FULL} unless given")
    parser.add_argument("--roles", help=f"some of: {','.join(who.role for who in WHO)}")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the service ends with whoever started it
    if find_spec("schemathesis") is None:
        print("schemathesis is not installed: `make setup`, or `pip install --group outside` in this environment")
        return 1
    seconds = options.seconds or (SHORT if options.short else FULL)
    asking = [who for who in WHO if not options.roles or who.role in options.roles.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="tasktrail-routes-"))
    (folder / "files").mkdir()
    Image.new("RGB", (64, 48), "teal").save(folder / "files" / "in.png")
    print(f"seed {options.seed}, {seconds:.0f} s", flush=True)
    broken: list[str] = []
    routes: set[str] = set()
    agreed: set[str] = set()
    try:
        with serving(folder, folder / "errors.txt") as (process, address):
            secret = (folder / "data" / "http-token").read_text().strip()
            with Client(address, token=secret) as client:
                tokens = add_tokens(client)
                for who in asking:
                    begun = time.monotonic()
                    share = seconds * who.share / sum(one.share for one in asking)
                    run = ask(who, tokens, address, folder, seconds=share, seed=options.seed)
                    print(told(who, run, time.monotonic() - begun), flush=True)
                    broken += run.findings
                    routes |= run.routes
                    agreed |= run.agreed
                kept = {token.token for token in client.tokens()}
                broken += [f"token {name} is gone, and what came after it was void" for name in tokens.keys() - kept]
                found = client.verify()
                broken += [] if found.ok else [f"the log does not verify: {found}"]
            broken += [] if process.poll() is None else [f"the service has ended with {process.returncode}"]
        said = (folder / "errors.txt").read_text(errors="replace")
        broken += [f"a traceback on standard error:\n{said[-5000:]}"] if "Traceback" in said else []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if len(asking) == len(WHO) and not options.short:
        print(f"never said yes to anybody: {', '.join(sorted(routes - agreed)) or 'none'}")
    for one in broken:
        print(f"BROKEN: {one}")
    print(f"routes: {len(broken)} promises broken, seed {options.seed}", flush=True)
    return min(len(broken), 1)


if __name__ == "__main__":
    sys.exit(main())

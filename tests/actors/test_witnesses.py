"""A witness signs growing logs and nothing else; whatever it answers, the seal exists and the answer is reported."""

import shutil
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from histories import BEGIN, Journal
from scripted_witness import Answers, ScriptedWitness, signed_in
from sealed_logs import Sealed, chained_anew

from tasktrail.actors.witnesses import ANSWER_WITHIN, WitnessResult, ask_witnesses
from tasktrail.events.log.rows import COLUMNS
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.state import create
from tasktrail.events.task_events import Created
from tasktrail.projections.errors import SealUnfit
from tasktrail.projections.proof.notes import PrivateKey, PublicKey, WitnessKey
from tasktrail.projections.proof.seals import SealCheck, make_seal, public_key, seal_files, with_signature
from tasktrail.projections.proof.witness_list import Witness, add_witness, read_witnesses
from tasktrail.projections.verification import Verification, verify


@cache
def context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


class Log(Sealed):
    """A log that grows by one record at a time, and is shown to witnesses."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(exist_ok=True)

    def grow(self, by: int = 1) -> None:
        log = SqliteEventLog(self.path, now=BEGIN)
        try:
            journal = Journal(log)
            for record in log.read():
                assert isinstance(record.event, Created)
                journal.states[record.task_id] = create(record.task_id, record.event, record.recorded_at)
            for _ in range(by):
                journal.create()
        finally:
            log.close()

    def show(self, *witnesses: Witness, again: bool = False, within: float = ANSWER_WITHIN) -> list[WitnessResult]:
        with closing(SqliteLogReader(self.path)) as log:
            seal, key = make_seal(log, self.seals, self.key_file, BEGIN)
            return list(ask_witnesses(log, seal, key, witnesses, again=again, within=within, context=context()))

    def copied(self, folder: Path) -> "Log":
        shutil.copytree(self.path.parent, folder)
        return Log(folder)

    def witnessed(self, *witnesses: Witness, needed: bool = False) -> Verification:
        keys = [WitnessKey(witness.key) for witness in witnesses]
        with closing(SqliteLogReader(self.path)) as log:
            return verify(log, seals=SealCheck(self.seals, public_key(self.seals), keys, needed=needed))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    made = Log(tmp_path / "log")
    made.grow(3)
    return made


# --- a witness that was not written here ---

needs_witness = pytest.mark.skipif(sys.version_info < (3, 12), reason="aics-witness is for Python 3.12 and newer")


class Independent:
    """Runs aics-witness, on loopback."""

    def __init__(self, folder: Path) -> None:
        tools = import_module("aics_witness.service"), import_module("aics_witness.store")
        store = tools[1].WitnessStore(folder / "witness.db", create=True)
        self.witness = tools[0].Witness("witness.example/w1", Ed25519PrivateKey.generate(), store)
        self.server = tools[0].make_server(self.witness)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.named = Witness(self.server.url, self.witness.vkey_text)

    def introduce(self, log: Sealed) -> None:
        config = import_module("aics_witness.config").LogConfig
        key = public_key(log.seals)
        self.witness.set_logs([config.from_strings(key.name, [key.text], extension_lines=True)])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.witness.store.close()


@pytest.fixture
def independent(tmp_path: Path) -> Iterator[Independent]:
    made = Independent(tmp_path)
    yield made
    made.close()


@needs_witness
@pytest.mark.slow
def test_a_hundred_growing_seals_are_signed_by_an_independent_witness(
    log: Log, independent: Independent, tmp_path: Path
) -> None:
    log.seal()
    independent.introduce(log)
    for number in range(100):
        (asked,) = log.show(independent.named)
        assert (asked.outcome, asked.message) == ("signed", ""), number
        log.grow(1 + number % 3)
    found = log.witnessed(independent.named, needed=True)
    assert found.ok
    assert len(seal_files(log.seals)) == 100
    assert [(one.witness, one.position) for one in found.witnessed] == [("witness.example/w1", found.sealed)]
    assert found.witnessed[0].at == asked.at > "2026"
    note = seal_files(log.seals)[-1].read_text()
    tlog = import_module("aics_tlog")
    parsed = tlog.parse_note(note)
    said = tlog.parse_checkpoint(parsed.text)
    (line,) = [line for line in parsed.signatures if line.name == "witness.example/w1"]
    key, lines = independent.witness.vkey, said.extension_lines
    raw = line.signature
    assert tlog.verify_cosignature(raw, key.name, key.public_key, said.origin, said.size, said.root, lines)

    address = f"{independent.server.url}/{sha256(said.origin.encode()).hexdigest()}/checkpoint"
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "newest.note").write_bytes(httpx.get(address, verify=context(), trust_env=False).content)
    with closing(SqliteLogReader(log.path)) as reader:
        check = SealCheck(kept, public_key(log.seals), [WitnessKey(independent.named.key)], needed=True)
        assert verify(reader, seals=check).sealed == found.sealed, "what the witness itself has kept is a seal, too"


@needs_witness
def test_a_fork_a_changed_past_and_a_cut_tail_are_refused_by_it(
    log: Log, independent: Independent, tmp_path: Path
) -> None:
    log.seal()
    independent.introduce(log)
    fork, older = log.copied(tmp_path / "fork"), log.copied(tmp_path / "older")
    log.grow(4)
    assert [asked.outcome for asked in log.show(independent.named)] == ["signed"]
    changed = log.copied(tmp_path / "changed")

    fork.grow(6)
    chained_anew(fork.path, lambda rows: rows[4].__setitem__(COLUMNS.index("reason"), "another"))
    (asked,) = fork.show(independent.named)
    assert (asked.outcome, asked.message[:14]) == ("contradicted", "it has signed ")

    shutil.rmtree(changed.seals)  # as an insider with the key does
    chained_anew(changed.path, lambda rows: rows[1].__setitem__(COLUMNS.index("reason"), "another"))
    for grown in (0, 3):
        if grown:
            changed.grow(grown)
        (asked,) = changed.show(independent.named)
        assert (asked.outcome, "other records" in asked.message) == ("contradicted", True)

    older.grow(1)
    (asked,) = older.show(independent.named)
    assert asked.outcome == "contradicted"
    assert "this log has only" in asked.message
    log.grow()
    assert [asked.outcome for asked in log.show(independent.named)] == ["signed"], "the true one goes on"


@needs_witness
def test_an_independent_witness_that_does_not_know_log_or_key_says_so(
    log: Log, independent: Independent, tmp_path: Path
) -> None:
    (asked,) = log.show(independent.named)
    assert (asked.outcome, "does not know this log" in asked.message) == ("refused", True)
    assert public_key(log.seals).text in asked.remedy
    independent.introduce(log)
    other = log.copied(tmp_path / "other")
    shutil.rmtree(other.seals)
    other.key_file.unlink()
    (asked,) = other.show(independent.named)
    assert (asked.outcome, "does not trust the key" in asked.message) == ("refused", True)
    assert [asked.outcome for asked in log.show(independent.named)] == ["signed"]


# --- one that answers as the test wants ---


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedWitness]]:
    with ExitStack() as stack:

        def start(answers: Answers | None = None, **how: Any) -> ScriptedWitness:
            return stack.enter_context(ScriptedWitness(answers, **how))

        yield start


def remembering(scripted: Callable[..., ScriptedWitness]) -> ScriptedWitness:
    """A witness that signs only what goes on from its last size."""
    seen = 0

    def answers(request: bytes) -> tuple[int, bytes]:
        nonlocal seen
        body = signed_in(request)
        size, old = int(body.split("\n")[1]), int(request.split(b"\n")[0].removeprefix(b"old "))
        if old != seen:
            return 409, f"{seen}\n".encode()
        seen = size
        return 200, witness.line(body, 1_700_000_000 + len(witness.asked))

    witness = scripted(answers)
    return witness


def test_who_has_signed_is_not_asked_again_and_is_asked_from_there_on_next_time(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    witness = scripted()
    assert [log.show(witness.named)[0].outcome for _ in range(2)] == ["signed", "signed"]
    log.grow(2)
    assert log.show(witness.named)[0].at == "2023-11-14T22:13:20Z"
    assert witness.olds == ["old 0", "old 3"]
    found = log.witnessed(witness.named)
    assert [(one.position, one.at) for one in found.witnessed] == [(5, "2023-11-14T22:13:20Z")]
    log.grow(2)
    log.seal()
    found = log.witnessed(witness.named)
    assert (found.sealed, found.witnessed[0].position) == (7, 5)


def test_a_log_that_was_cut_where_it_was_signed_is_contradicted_by_whoever_is_asked_again(
    log: Log, scripted: Callable[..., ScriptedWitness], tmp_path: Path
) -> None:
    """Its newest seal is signed, and the seals that would show the cut are gone with the records."""
    witness = remembering(scripted)
    (first,) = log.show(witness.named)
    assert log.show(witness.named, again=True) == [first], "its earlier signature stays"
    cut = log.copied(tmp_path / "cut")
    log.grow(4)
    log.show(witness.named)

    assert cut.show(witness.named) == [first]
    (asked,) = cut.show(witness.named, again=True)
    assert (asked.outcome, asked.message) == ("contradicted", "it has signed 7 records, and this log has only 3")
    witness.server.shutdown()
    witness.server.server_close()
    assert cut.show(witness.named, again=True) == [first], "it signed this once, and is absent now"


@pytest.mark.parametrize("signed_before", [False, True])
def test_a_service_that_has_its_own_seal_signed_meanwhile_contradicts_nothing(
    log: Log, scripted: Callable[..., ScriptedWitness], *, signed_before: bool
) -> None:
    witness = remembering(scripted)
    if signed_before:
        log.show(witness.named)
    with closing(SqliteLogReader(log.path)) as reader:
        seal, key = make_seal(reader, log.seals, log.key_file, BEGIN)
        log.grow(4)
        assert [one.outcome for one in log.show(witness.named)] == ["signed"]
        (asked,) = ask_witnesses(reader, seal, key, [witness.named], again=True, context=context())
    if signed_before:
        assert (asked.outcome, asked.at) == ("signed", "2023-11-14T22:13:21Z")
    else:
        assert (asked.outcome, asked.message) == ("absent", "it has signed a newer seal meanwhile, of 7 records")
        assert asked.remedy == "Nothing: it is asked again with the next seal."
    assert [(one.position, one.witness) for one in log.witnessed(witness.named, needed=True).witnessed] == [(7, "w")]


def test_a_log_that_has_grown_meanwhile_but_not_as_far_as_was_signed_is_contradicted(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    witness = scripted(lambda _body: (409, b"7\n"))
    with closing(SqliteLogReader(log.path)) as reader:
        seal, key = make_seal(reader, log.seals, log.key_file, BEGIN)
        log.grow(3)
        (asked,) = ask_witnesses(reader, seal, key, [witness.named], context=context())
    assert (asked.outcome, asked.message) == ("contradicted", "it has signed 7 records, and this log has only 6")


def test_two_witnesses_sign_the_same_seal_and_one_that_is_absent_keeps_nobody_from_it(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    first, gone, second = scripted(), scripted(), scripted()
    gone.server.shutdown()  # or a look for connections, which has begun, would keep the port open
    gone.server.server_close()
    asked = log.show(first.named, gone.named, second.named)
    assert [one.outcome for one in asked] == ["signed", "absent", "signed"]
    assert asked[1].message == "nothing listens at that host and port (connection refused)"
    assert asked[1].remedy.startswith("Nothing: it is asked again with the next seal. If this goes on, see whether")
    assert [one.position for one in log.witnessed(first.named, second.named).witnessed] == [3, 3]
    missing = log.witnessed(first.named, gone.named, needed=True)
    assert [one.message for one in missing.findings] == ["no matching seal is signed by the witness w"]
    assert "another log" not in missing.findings[0].remedy
    assert log.witnessed(first.named, gone.named).ok


@pytest.mark.parametrize(
    ("status", "content", "outcome", "said"),
    [
        (503, b"", "absent", "cannot sign now"),
        (408, b"", "absent", "cannot sign now"),
        (429, b"", "absent", "cannot sign now"),
        (400, b"", "refused", "two lines more"),
        (403, b"", "refused", "does not trust the key"),
        (404, b"", "refused", "does not know this log"),
        (302, b"", "refused", "HTTP 302"),
        (409, b"nonsense", "refused", "HTTP 409"),
        (409, b"1", "refused", "HTTP 409"),
        (409, b"2\n", "refused", "although the request goes on from the 2 records that it says it has signed"),
        (409, b"0\n", "refused", "although the request goes on from the 0 records that it says it has signed"),
        (409, b"3\n", "contradicted", "other records"),
        (409, b"4\n", "contradicted", "it has signed 4 records, and this log has only 3"),
        (409, b"9999999999999999999999\n", "refused", "HTTP 409"),
        (422, b"", "contradicted", "other records"),
        (200, b"", "refused", "what it has answered is no signature"),
        (200, b"\xff\x00" * 32_768, "refused", "what it has answered is no signature"),
        (200, b"\xff\x00" * 32_769, "refused", "its answer is longer than 65536 bytes"),
        (200, "— w AAAA\n".encode(), "refused", "no signature of the key"),
    ],
)
def test_each_answer_is_told_as_what_it_is_and_the_seal_is_there(
    log: Log, scripted: Callable[..., ScriptedWitness], status: int, content: bytes, outcome: str, said: str
) -> None:
    witness = scripted(lambda _body: (status, content))
    before = log.seal()
    (asked,) = log.show(witness.named)
    assert (asked.outcome, said in asked.message) == (outcome, True)
    assert asked.remedy
    assert len(witness.asked) <= 3
    assert log.seal() == before
    assert log.witnessed(witness.named).witnessed[0].position == 0


def test_the_advice_about_a_witness_that_contradicts_itself_is_not_about_its_address(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    (asked,) = log.show(scripted(lambda _body: (409, b"2\n")).named)
    assert "address" not in asked.remedy
    assert "operator" in asked.remedy


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ("<!DOCTYPE html><title>Sign in — now</title>", "whether its address is right"),
        ("— w AAAA\n", "whether its key is right"),
        ("— x AAAA\n", "whether its key is right"),
    ],
)
def test_the_advice_about_an_answer_without_our_signature_is_about_the_address_unless_others_have_signed(
    log: Log, scripted: Callable[..., ScriptedWitness], content: str, advice: str
) -> None:
    (asked,) = log.show(scripted(lambda _body: (200, content.encode())).named)
    assert advice in asked.remedy


def test_a_witness_that_names_another_size_each_time_is_asked_again_with_the_next_seal(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    sizes = iter((b"1\n", b"2\n", b"3\n"))
    witness = scripted(lambda _body: (409, next(sizes)))
    (asked,) = log.show(witness.named)
    assert (asked.outcome, len(witness.asked)) == ("absent", 3)
    assert asked.message == "it has signed another seal meanwhile, of 3 records"
    assert asked.remedy == "Nothing: it is asked again with the next seal."


def test_a_redirect_is_not_followed_and_told_with_its_address(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    witness = scripted(location="/new/add-checkpoint")
    (asked,) = log.show(witness.named)
    told = f"HTTP 307, a redirect to http://127.0.0.1:{witness.server.server_port}/new/add-checkpoint"
    assert (asked.outcome, told in asked.message, len(witness.asked)) == ("refused", True, 1)


@pytest.mark.parametrize(("upto", "outcome"), [(9, "absent"), (None, "signed")])
def test_an_answer_that_never_ends_is_told_as_late_unless_the_signature_is_whole(
    log: Log, scripted: Callable[..., ScriptedWitness], upto: int | None, outcome: str
) -> None:
    witness: ScriptedWitness = scripted(lambda request: (200, witness.signing(request)[1][:upto]), endless=True)
    (asked,) = log.show(witness.named, within=0.5)
    said = "" if upto is None else "no complete answer within 0.5 s"
    assert (asked.outcome, asked.message) == (outcome, said)


@pytest.mark.parametrize("wrong", ["text", "name", "time", "no time"])
def test_a_signature_of_another_text_time_or_name_is_not_kept(
    wrong: str, log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    def answers(request: bytes) -> tuple[int, bytes]:
        body = signed_in(request)
        lines = {
            "text": lambda: witness.line("another text\n"),
            "name": lambda: witness.line(body, name="other"),
            "time": lambda: witness.line(body, 2**62),  # no calendar shows it
            "no time": lambda: witness.line(body, 0),
        }
        return 200, lines[wrong]()

    witness: ScriptedWitness = scripted(answers)
    assert log.show(witness.named)[0].outcome == "refused"
    assert log.witnessed(witness.named).ok


def test_a_signature_that_was_changed_in_the_seal_is_found_and_replaced(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    witness = scripted()
    log.show(witness.named)
    (file,) = seal_files(log.seals)
    body, _, line = file.read_text().rstrip("\n").rpartition("\n")
    file.write_text(f"{body}\n{line[:-8]}AAAAAAA=\n")
    found = log.witnessed(witness.named)
    assert "does not match this text" in found.findings[0].message
    assert "The newest seal is signed again with `tasktrail seal`" in found.findings[0].remedy
    assert found.sealed == 3
    assert log.show(witness.named)[0].outcome == "signed"
    assert log.witnessed(witness.named).ok
    assert file.read_text().count("— w ") == 1


def test_a_witness_that_has_seen_a_size_that_we_do_not_know_is_asked_from_there(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    def answers(request: bytes) -> tuple[int, bytes]:
        return witness.signing(request) if request.startswith(b"old 2\n") else (409, b"2\n")

    witness = scripted(answers)
    assert log.show(witness.named)[0].outcome == "signed"
    assert witness.olds == ["old 0", "old 2"]
    assert witness.asked[1].count(b"\n", 0, witness.asked[1].index(b"\n\n")) == 1, "one hash leads from 2 to 3"


def test_an_address_that_leads_nowhere_is_told_and_the_others_are_asked(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    witness = scripted()
    nowhere = Witness("http://127.0.0.1:99999", witness.key)
    asked = log.show(nowhere, witness.named)
    assert [one.outcome for one in asked] == ["refused", "signed"]
    assert (asked[0].message, "`tasktrail witness list`" in asked[0].remedy) == ("There is no such port", True)


def test_what_is_no_key_of_a_witness_is_refused(log: Log) -> None:
    log.seal()
    told = {
        "": "it does not have the form NAME[+]HASH[+]KEY",
        "a": "it does not have the form NAME[+]HASH[+]KEY",
        "a+b+c": "it does not have the form NAME[+]HASH[+]KEY",
        "a+b+\u00e9": "it does not have the form NAME[+]HASH[+]KEY",
        "a+00000000+BQ==": "it is of the kind 5, and 4 [(]Ed25519[)] is needed",
        log.key: "it is the key of a log",
    }
    for text, why in told.items():
        with pytest.raises(SealUnfit, match=f"not the key of a witness: {why}") as error:
            WitnessKey(text)
        assert "as the operator of the witness publishes it" in error.value.advice


@pytest.mark.parametrize("rest", ["a", "a+b+c", "a+b+\u00e9", "a+b+"])
def test_what_is_no_private_key_is_refused_with_the_form_of_one(rest: str) -> None:
    with pytest.raises(SealUnfit) as error:
        PrivateKey(f"PRIVATE+KEY+{rest}")
    assert error.value.message.endswith("it does not have the form PRIVATE+KEY+NAME+HASH+KEY")


def test_what_is_no_key_of_seals_is_refused(log: Log, scripted: Callable[..., ScriptedWitness]) -> None:
    log.seal()
    for text, why in (("", "NAME[+]HASH[+]KEY"), (scripted().key, "it is the key of a witness")):
        with pytest.raises(SealUnfit, match=f"not the key of a seal: .*{why}") as error:
            PublicKey(text)
        assert "as `tasktrail seal` shows it" in error.value.advice


def test_signatures_that_come_to_several_processes_at_once_are_all_kept(
    log: Log, scripted: Callable[..., ScriptedWitness]
) -> None:
    witnesses = [scripted(name=f"w{number}") for number in range(4)]
    with closing(SqliteLogReader(log.path)) as reader:
        seal, _ = make_seal(reader, log.seals, log.key_file, BEGIN)

    def sign(witness: ScriptedWitness) -> None:
        with_signature(seal, WitnessKey(witness.key), witness.line(seal.checkpoint.text()).decode())

    with ThreadPoolExecutor(len(witnesses)) as pool:
        list(pool.map(sign, witnesses))
    named = [witness.named for witness in witnesses]
    assert [one.position for one in log.witnessed(*named).witnessed] == [3] * len(named)


def test_witnesses_that_are_added_at_once_are_all_kept(
    tmp_path: Path, scripted: Callable[..., ScriptedWitness]
) -> None:
    path, named = tmp_path / "witnesses.json", [scripted(name=f"w{number}").named for number in range(8)]
    with ThreadPoolExecutor(len(named)) as pool:
        list(pool.map(lambda one: add_witness(path, one), named))
    assert {one.name for one in read_witnesses(path)} == {one.name for one in named}
    assert [one.name for one in tmp_path.iterdir()] == ["witnesses.json"]

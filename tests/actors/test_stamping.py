"""A time authority that was not written here stamps a seal, and a stamp of something else is not accepted."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import httpx
import pytest
from histories import BEGIN, Journal, random_history
from odd_certificates import of_ninth_version
from sealed_logs import Sealed
from time_authority import TimeAuthority

from tasktrail.actors.delivery.post import MAX_ANSWER
from tasktrail.actors.stamping import have_stamped
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.errors import NoStamp, SealUnfit
from tasktrail.projections.proof.seals import Seal, SealCheck, make_seal, public_key
from tasktrail.projections.proof.stamps import Authorities, kept_time
from tasktrail.projections.verification import Verification, verify

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is the time authority")


@cache
def context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


class Log(Sealed):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        log = SqliteEventLog(self.path, now=BEGIN)
        random_history(Journal(log), 20, seed=1)
        log.close()

    def sealed(self) -> Seal:
        with closing(SqliteLogReader(self.path)) as log:
            return make_seal(log, self.seals, self.key_file, BEGIN)[0]

    def stamped(self, root: Path) -> Verification:
        with closing(SqliteLogReader(self.path)) as log:
            return verify(log, seals=SealCheck(self.seals, public_key(self.seals), authorities=Authorities(root)))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


# The certificate of a signer with a long name is longer than that of the root, and still stands before it.
@pytest.mark.parametrize("clock", ["clock", "a clock with a long name, which makes its certificate longer"])
def test_a_stamp_holds_and_tells_the_time(log: Log, tmp_path: Path, clock: str) -> None:
    with TimeAuthority(tmp_path / "tsa", clock=clock) as authority:
        seal = log.sealed()
        at = have_stamped(seal, authority.url, context=context()).at
        found = log.stamped(authority.root)
    assert found.ok
    assert found.stamped is not None
    assert (found.stamped.position, found.stamped.at) == (seal.checkpoint.size, at)
    assert abs(datetime.fromisoformat(at) - datetime.now(UTC)) < timedelta(minutes=5)
    text, stamp = tmp_path / "text", seal.path.with_suffix(".tsr")
    text.write_text(seal.checkpoint.text())
    command = ["openssl", "ts", "-verify", "-data", str(text), "-in", str(stamp), "-CAfile", str(authority.root)]
    assert b"Verification: OK" in subprocess.run(command, check=True, capture_output=True, timeout=30).stdout


def test_a_stamp_of_another_seal_or_authority_or_a_damaged_one_does_not_hold(log: Log, tmp_path: Path) -> None:
    with TimeAuthority(tmp_path / "tsa") as authority, TimeAuthority(tmp_path / "other") as other:
        seal = log.sealed()
        have_stamped(seal, authority.url, context=context())
        stamp = seal.path.with_suffix(".tsr")
        kept = stamp.read_bytes()
        (told, missing) = log.stamped(other.root).findings
        assert "does not hold" in told.message
        assert "no matching seal is stamped" in missing.message
        for advice in (told.remedy, missing.remedy):
            assert "certificates are those of the authority" in advice
            assert "does not mean that the log was changed" in advice
        have_stamped(seal._replace(checkpoint=seal.checkpoint._replace(size=1)), authority.url, context=context())
        assert "does not hold" in log.stamped(authority.root).findings[0].message
        for damaged in (b"", kept[:-5], kept.replace(b"\x30", b"\x31", 1), kept[:-20] + bytes(20)):
            stamp.write_bytes(damaged)
            assert "stamped again with `tasktrail anchor tsa URL`" in log.stamped(authority.root).findings[0].remedy
        stamp.write_bytes(kept)
        assert log.stamped(authority.root).ok
        stamp.unlink()
        stamp.mkdir()
        assert "a file again" in log.stamped(authority.root).findings[0].remedy
        stamp.rmdir()
        assert [one.position for one in log.stamped(authority.root).findings] == [0]


@pytest.mark.parametrize(
    ("changing", "words", "advice"),
    [
        *(
            (lambda answer, status=status: (status, answer), f"HTTP {status}", "Ask again later")
            for status in (408, 429, 500, 503)
        ),
        *(
            (lambda answer, status=status: (status, answer), f"HTTP {status}", "See whether this is the address")
            for status in (201, 400, 404)
        ),
        (lambda _: (404, b""), "HTTP 404", "See whether this is the address"),
        (lambda _: (200, b"nonsense"), "no answer of a time authority", "Ask again later"),
        (lambda answer: (200, answer[:-9]), "no answer of a time authority", "Ask again later"),
    ],
)
def test_an_authority_that_does_not_stamp_is_told_and_nothing_is_kept(
    log: Log, tmp_path: Path, changing: Callable[[bytes], tuple[int, bytes]], words: str, advice: str
) -> None:
    """With another status than 200 it does not count that there is a stamp, too."""
    seal = log.sealed()
    with TimeAuthority(tmp_path / "tsa", changing) as authority, pytest.raises(NoStamp, match=words) as told:
        have_stamped(seal, authority.url, context=context())
    assert advice in told.value.advice
    assert not seal.path.with_suffix(".tsr").exists()


@pytest.mark.parametrize(
    ("kind", "told", "advice"),
    [
        ("text/html; charset=utf-8", "(text/html)", "See whether this is the address"),
        ("", "what it has answered is no answer of a time authority", "See whether this is the address"),
        (
            "application/timestamp-reply",
            "(application/timestamp-reply) is no answer of a time authority",
            "Ask again later",
        ),
        ("Application/Timestamp-Reply; v=1", "is no answer of a time authority", "Ask again later"),
    ],
)
def test_a_page_in_place_of_a_stamp_is_told_as_what_it_is(
    log: Log, tmp_path: Path, kind: str, told: str, advice: str
) -> None:
    page = b"<!DOCTYPE html><title>Sign in</title>"
    with (
        TimeAuthority(tmp_path / "tsa", lambda _: (200, page), kind=kind) as authority,
        pytest.raises(NoStamp) as error,
    ):
        have_stamped(log.sealed(), authority.url, context=context())
    assert told in error.value.message
    assert "ASN.1" not in error.value.message
    assert advice in error.value.advice


def test_an_answer_that_is_too_long_for_a_stamp_is_told_as_such(log: Log, tmp_path: Path) -> None:
    with (
        TimeAuthority(tmp_path / "tsa", lambda _: (200, b"x" * (MAX_ANSWER + 1))) as authority,
        pytest.raises(NoStamp, match="its answer is longer than 65536 bytes") as error,
    ):
        have_stamped(log.sealed(), authority.url, context=context())
    assert "See whether this is the address" in error.value.advice


def test_a_redirect_is_not_followed_and_told_with_its_address(log: Log, tmp_path: Path) -> None:
    with TimeAuthority(tmp_path / "tsa", location="/new?a=1") as authority, pytest.raises(NoStamp) as told:
        have_stamped(log.sealed(), authority.url, context=context())
    new = authority.url.replace("/tsr", "/new?a=1")
    assert f"HTTP 302, a redirect to {new}, which is not followed" in told.value.message
    assert "See whether this is the address" in told.value.advice


def test_a_port_at_which_nothing_listens_is_told_with_what_to_do(log: Log) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/tsr"
        with pytest.raises(NoStamp) as told:
            have_stamped(log.sealed(), url, context=context())
    what = "nothing listens at that host and port (connection refused)"
    assert told.value.message == f"{url} has not stamped the seal: {what}"
    assert "See whether the address is right and can be reached from here" in told.value.advice


@pytest.mark.parametrize(("upto", "is_kept"), [(9, False), (None, True)])
def test_an_answer_that_never_ends_is_told_as_late_unless_the_stamp_is_whole(
    log: Log, tmp_path: Path, upto: int | None, *, is_kept: bool
) -> None:
    seal = log.sealed()
    with TimeAuthority(tmp_path / "tsa", lambda answer: (200, answer[:upto]), endless=True) as authority:
        if is_kept:
            assert have_stamped(seal, authority.url, within=0.5, context=context()).is_new
        else:
            with pytest.raises(NoStamp, match=r"no complete answer within 0\.5 s"):
                have_stamped(seal, authority.url, within=0.5, context=context())
    assert seal.stamp.exists() == is_kept


def test_the_stamp_of_another_question_is_not_taken(log: Log, tmp_path: Path) -> None:
    seal = log.sealed()
    answers: list[bytes] = []

    def first_again(answer: bytes) -> tuple[int, bytes]:
        answers.append(answer)
        return 200, answers[0]

    with TimeAuthority(tmp_path / "tsa", first_again) as authority:
        have_stamped(seal, authority.url, context=context())
        seal.path.with_suffix(".tsr").unlink()
        with pytest.raises(NoStamp, match="stamped something else"):
            have_stamped(seal, authority.url, context=context())


def counting(asked: list[bytes], answer: bytes) -> tuple[int, bytes]:
    asked.append(answer)
    return 200, answer


def test_a_stamp_that_is_there_stays_and_nobody_is_asked_for_a_later_one(log: Log, tmp_path: Path) -> None:
    seal, asked = log.sealed(), list[bytes]()
    file = seal.path.with_suffix(".tsr")
    with (
        TimeAuthority(tmp_path / "tsa") as first,
        TimeAuthority(tmp_path / "other", lambda answer: counting(asked, answer)) as second,
    ):
        made = have_stamped(seal, first.url, context=context())
        kept = file.read_bytes()
        assert (made.is_new, have_stamped(seal, second.url, context=context())) == (True, made._replace(is_new=False))
        assert (asked, file.read_bytes()) == ([], kept)
        have_stamped(seal._replace(checkpoint=seal.checkpoint._replace(size=1)), first.url, context=context())
        for unfit in (file.read_bytes(), b"", kept[:-5]):
            file.write_bytes(unfit)
            assert have_stamped(seal, second.url, context=context()).is_new
        assert len(asked) == 3, "a stamp of another text, or a damaged one, is replaced"
        assert log.stamped(second.root).ok


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # in a certificate that was changed
def test_a_stamp_with_any_byte_changed_is_read_or_told_as_none(log: Log, tmp_path: Path) -> None:
    seal = log.sealed()
    with TimeAuthority(tmp_path / "tsa") as authority:
        have_stamped(seal, authority.url, context=context())
    text, stamp = seal.checkpoint.text(), seal.stamp.read_bytes()
    trusted = Authorities(authority.root)
    for place in range(len(stamp)):
        changed = stamp[:place] + bytes([stamp[place] ^ 1]) + stamp[place + 1 :]
        with suppress(SealUnfit):
            kept_time(text, changed)
        with suppress(SealUnfit):
            trusted.stamped_at(text, changed)


def test_of_two_stamps_that_come_at_once_the_first_stays(log: Log, tmp_path: Path) -> None:
    seal = log.sealed()
    with TimeAuthority(tmp_path / "tsa") as quick:

        def overtaken(answer: bytes) -> tuple[int, bytes]:
            have_stamped(seal, quick.url, context=context())
            return 200, answer

        with TimeAuthority(tmp_path / "other", overtaken) as slow:
            assert not have_stamped(seal, slow.url, context=context()).is_new
        assert log.stamped(quick.root).ok


def test_an_authority_that_is_not_there_or_has_no_address_is_told(log: Log, tmp_path: Path) -> None:
    with TimeAuthority(tmp_path / "tsa") as authority:
        pass
    for url in (authority.url, "ftp://localhost/"):
        with pytest.raises(NoStamp, match="has not stamped the seal"):
            have_stamped(log.sealed(), url, context=context())


def test_the_authoritys_own_certificate_alone_does_not_suffice_as_with_openssl(log: Log, tmp_path: Path) -> None:
    with TimeAuthority(tmp_path / "tsa") as authority:
        have_stamped(log.sealed(), authority.url, context=context())
    own = authority.root.with_name("signer.pem")
    assert "up to its root" in log.stamped(own).findings[0].remedy
    both = tmp_path / "both.pem"
    both.write_bytes(own.read_bytes() + authority.root.read_bytes())
    assert log.stamped(both).ok


def test_roots_of_one_name_are_all_looked_at(log: Log, tmp_path: Path) -> None:
    """An authority that renews its root may keep the name. Which of the two was looked at was left to chance."""
    seal, both = log.sealed(), tmp_path / "both.pem"
    with TimeAuthority(tmp_path / "tsa") as old, TimeAuthority(tmp_path / "renewed") as new, both.open("wb") as file:
        file.writelines(one.root.read_bytes() for one in (old, new))
        file.flush()
        for authority in (old, new):
            seal.stamp.unlink(missing_ok=True)
            have_stamped(seal, authority.url, context=context())
            assert log.stamped(both).ok
    with TimeAuthority(tmp_path / "third") as third:
        assert not log.stamped(third.root).ok


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_certificates_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "roots.pem").write_text(content)
    with pytest.raises(SealUnfit, match="has no certificates") as told:
        Authorities(tmp_path / "roots.pem")
    assert told.value.message.endswith("roots.pem has no certificates in PEM")


def test_a_certificate_of_a_version_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """The library has an error of its own for it, which ended `verify` with a traceback."""
    roots = tmp_path / "roots.pem"
    with TimeAuthority(tmp_path / "tsa") as authority:
        roots.write_text(of_ninth_version(authority.root.read_text()))
    with pytest.raises(SealUnfit, match="has no certificates in PEM"):
        Authorities(roots)

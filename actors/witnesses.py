"""Asks witnesses to sign a seal, too. A witness signs only a seal that continues its last one (C2SP tlog-witness).

The kept seals show which one a witness signed last; nothing else is stored about it. A seal is kept before any witness
is asked.
"""

import base64
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from http import HTTPStatus
from typing import Literal, TypeAlias

import httpx
import msgspec

from ..events.counted import counted
from ..events.log.log_reader import LogReader
from ..projections.errors import SealUnfit
from ..projections.proof.growth import tree_of
from ..projections.proof.merkle import Tree
from ..projections.proof.notes import PublicKey, WitnessKey
from ..projections.proof.seals import Seal, last_signed, with_signature
from ..projections.proof.witness_list import Witness
from .delivery.attempt import Deadline
from .delivery.post import TOO_LONG, HttpAnswer, Poster
from .delivery.ssrf import EndpointRefused, host_port

ANSWER_WITHIN = 20.0
"""Seconds that a witness may take for an answer."""
_TIMES_ASKED = 3
"""How often one is asked: if the log is sealed in two places, the size that it has signed may grow meanwhile."""
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_SIGNATURE = re.compile("^— ".encode(), re.MULTILINE)

WitnessOutcome: TypeAlias = Literal["signed", "absent", "refused", "contradicted"]


class WitnessResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of asking a witness."""

    witness: str
    """The name of its key."""
    url: str
    outcome: WitnessOutcome
    """absent: no answer, or it cannot sign now. refused: it does not accept our seal. contradicted: it signed
    another log."""
    at: str = ""
    """When it signed, by its own clock."""
    message: str = ""
    remedy: str = ""


class _NoAnswer(Exception):
    """The witness could not be asked. The message says why."""


def ask_witnesses(
    log: LogReader,
    seal: Seal,
    key: PublicKey,
    witnesses: Sequence[Witness],
    *,
    again: bool = False,
    within: float = ANSWER_WITHIN,
    context: ssl.SSLContext | None = None,
) -> Iterator[WitnessResult]:
    """Ask each witness for its signature, and keep it with the seal.

    Args:
        log: the log that was sealed.
        seal: its newest seal.
        key: the key of the seals.
        witnesses: the witnesses to ask.
        again: ask also those that have signed this seal, since one of them may have signed more records meanwhile.
        within: seconds for each answer.
        context: for TLS; None for the default.

    Raises:
        OSError: a signature cannot be kept.
    """
    if not witnesses:
        return
    places = []  # the operator configures them, so any address is allowed
    for witness in witnesses:
        with suppress(EndpointRefused):  # reported when it is asked
            places.append(host_port(witness.url))
    sealed = _Sealed(log, seal, key, Poster(places, all_within=within, context=context), within)
    for witness in witnesses:
        yield sealed.ask(witness, again=again)


class _Sealed:
    """One seal, while witnesses are asked to sign it."""

    def __init__(self, log: LogReader, seal: Seal, key: PublicKey, poster: Poster, within: float) -> None:
        self._log = log
        self._seal = seal
        self._key = key
        self._poster = poster
        self._within = within

    @cached_property
    def _tree(self) -> Tree:
        """The tree over the log, made only when a witness needs a proof that the log has only grown."""
        return tree_of(self._log, self._seal.checkpoint.size)

    def ask(self, witness: Witness, *, again: bool) -> WitnessResult:
        """Have the witness sign. If it has, its kept signature is the result, unless it contradicts it now."""
        key = WitnessKey(witness.key)
        signed_at = _signed_at(key, self._seal)
        if not signed_at:
            return self._signed(witness, key)
        # What it signs now is not kept: the earlier signature proves more.
        if again and (now := self._signed(witness, key, keep=False)).outcome == "contradicted":
            return now
        return WitnessResult(witness=key.name, url=witness.url, outcome="signed", at=signed_at)

    def _signed(self, witness: Witness, key: WitnessKey, *, keep: bool = True) -> WitnessResult:
        """Have the witness sign, and keep its signature. Without `keep`, only its answer is looked at."""

        def not_signed(outcome: WitnessOutcome, message: str, remedy: str = "") -> WitnessResult:
            return WitnessResult(witness=key.name, url=witness.url, outcome=outcome, message=message, remedy=remedy)

        try:
            last = last_signed(self._seal.path.parent, self._key, key, self._seal.checkpoint.size)
            answer, old = self._answer(witness.url, last.position)
        except _NoAnswer as error:
            return not_signed("absent", str(error), _LATER.format(key.name))
        except EndpointRefused as error:
            return not_signed("refused", str(error), _WRONG_URL)
        if answer.status != HTTPStatus.OK:
            return not_signed(*self._in_words(key.name, answer, old))
        if keep:
            try:
                self._seal = with_signature(self._seal, key, answer.content.decode(errors="replace"))
            except SealUnfit as error:
                if answer.is_cut:
                    return not_signed("absent", self._poster.incomplete, _LATER.format(key.name))
                if answer.is_long:
                    return not_signed("refused", TOO_LONG, _WRONG_URL)
                if not _SIGNATURE.search(answer.content):  # of nobody, so it is most likely a page of something else
                    return not_signed("refused", "what it has answered is no signature", _WRONG_URL)
                return not_signed("refused", f"it has answered, but: {error.message}", _WRONG_KEY)
        return WitnessResult(witness=key.name, url=witness.url, outcome="signed", at=key.signed_at(self._seal.note))

    def _answer(self, url: str, old: int) -> tuple[HttpAnswer, int]:
        """The witness's answer, and the old size in the last request: it may have signed a size unknown to us."""
        for _ in range(_TIMES_ASKED):
            asked, answer = old, self._post(url, old)
            seen = _size_in(answer)
            if seen is None or seen == asked or seen > self._seal.checkpoint.size:
                break
            old = seen
        return answer, asked

    def _post(self, url: str, old: int) -> HttpAnswer:
        grown = 0 < old < self._seal.checkpoint.size
        proof = self._tree.consistency(old) if grown else ()
        path = "".join(f"{base64.b64encode(each).decode()}\n" for each in proof)
        content = f"old {old}\n{path}\n{self._seal.note}".encode()
        with Deadline(self._within) as deadline:
            try:
                return self._poster.post(f"{url.rstrip('/')}/add-checkpoint", content, _HEADERS, deadline)
            except (httpx.HTTPError, OSError, ValueError) as error:
                raise _NoAnswer(self._poster.why_not(error, deadline)) from error

    def _in_words(self, name: str, answer: HttpAnswer, old: int) -> tuple[WitnessOutcome, str, str]:
        """Explain why the witness has not signed: the outcome, what happened, what to do."""
        size, status = self._seal.checkpoint.size, answer.status
        seen = _size_in(answer)
        if seen is not None and seen > size:
            signed, there = counted(seen, "record"), max(size, self._log.head().position)
            if seen > there:
                return "contradicted", f"it has signed {signed}, and this log has only {there}", _COMPARE
            # A seal of a running service, most likely. The next seal shows whether it was of these records.
            return "absent", f"it has signed a newer seal meanwhile, of {signed}", _NEXT_SEAL
        if seen == old == size or status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return "contradicted", "it has signed a log with other records, which this one does not continue", _COMPARE
        if seen is not None and seen == old:
            message = "it refuses (HTTP 409), although the request goes on from the {} that it says it has signed"
            return "refused", message.format(counted(seen, "record")), _TELL_OPERATOR
        if seen is not None:
            return "absent", f"it has signed another seal meanwhile, of {counted(seen, 'record')}", _NEXT_SEAL
        introduce = f"Give its operator the origin {self._key.name} and the public key {self._key.text}"
        if status == HTTPStatus.NOT_FOUND:
            return "refused", "it does not know this log (HTTP 404)", introduce
        if status == HTTPStatus.FORBIDDEN:
            return "refused", "it does not trust the key of the seal (HTTP 403)", introduce
        if status == HTTPStatus.BAD_REQUEST:
            message = "it does not accept the seal (HTTP 400): a seal has two lines more than some witnesses allow"
            return "refused", message, "Ask its operator to allow extension lines in checkpoints of this log."
        if answer.may_change:
            return "absent", f"it cannot sign now (HTTP {status})", _LATER.format(name)
        return "refused", f"it has answered {answer.status_in_words()}", _WRONG_URL


_HEADERS = {"content-type": "text/plain; charset=utf-8", "user-agent": "tasktrail"}
_WRONG_URL = "See whether its address is right: `tasktrail witness list` shows it."
_WRONG_KEY = "See whether its key is right: `tasktrail witness list` shows it."
_NEXT_SEAL = "Nothing: it is asked again with the next seal."
_TELL_OPERATOR = "Tell its operator that the witness contradicts itself. It is asked again with the next seal."
_LATER = (
    f"{_NEXT_SEAL} If this goes on, see whether its address is right: `tasktrail witness list` shows it. If it is gone "
    "for good, take it out with `tasktrail witness remove {}`."
)
_COMPARE = (
    "This is an older copy, or the past was changed. Keep log and seals as evidence, and run "
    "`tasktrail verify --seals DIR` with seals that were kept elsewhere."
)


def _signed_at(key: WitnessKey, seal: Seal) -> str:
    with suppress(SealUnfit):  # it is asked again, and its signature replaced
        return key.signed_at(seal.note)
    return ""


def _size_in(answer: HttpAnswer) -> int | None:
    """The size that the witness signed last, if its answer says that the request named another one."""
    if answer.status != HTTPStatus.CONFLICT:
        return None
    match = _SIZE.fullmatch(answer.content)
    return int(match[1]) if match else None

"""No second attempt starts before the first is surely dead, whatever happens to the messages between the two sides."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.cluster.lease import DRIFT, Fence, Lease

SECONDS, MARGIN = 10.0, 0.0  # the margin is for stopping: the drift of clocks must be covered without it


@dataclass
class Message:
    arrives: float
    stamp: float
    to_holder: bool


seconds = st.floats(0.0, 30.0)


@given(
    offset=st.floats(-1e6, 1e6),
    drift=st.floats(-DRIFT * 0.9, DRIFT * 0.9),
    steps=st.lists(st.tuples(seconds, seconds, seconds, st.booleans(), st.booleans()), max_size=30),
    last=seconds,
)
def test_when_the_fence_is_passed_the_lease_is_over(
    offset: float, drift: float, steps: list[tuple[float, float, float, bool, bool]], last: float
) -> None:
    """The holder has another clock. Answers and renewals are late, overtake each other, or never arrive."""

    def holders(now: float) -> float:
        return offset + now * (1 + drift)

    lease, fence = Lease(SECONDS, holders(0.0)), Fence(SECONDS, MARGIN, 0.0)
    on_their_way: list[Message] = []
    now = 0.0
    for pause, there, back, answer_lost, renewal_lost in steps:
        until = now + pause
        for message in sorted((one for one in on_their_way if one.arrives <= until), key=lambda one: one.arrives):
            on_their_way.remove(message)
            if message.to_holder:
                lease.renew(message.stamp)
            else:
                fence.heard(message.stamp, message.arrives)
        now = until
        if fence.is_passed(now):
            assert lease.is_over(holders(now))
        if not answer_lost:
            on_their_way.append(Message(now + there, holders(now), to_holder=False))
        stamp = fence.grant()
        if stamp is not None and not renewal_lost:
            on_their_way.append(Message(now + back, stamp, to_holder=True))
    # Nothing more is granted; everything still on its way arrives, however late.
    end = max(fence.at, now) + last
    for message in on_their_way:
        if message.to_holder:
            lease.renew(message.stamp)
    assert lease.is_over(holders(end))


def test_a_lease_begins_as_one_that_is_over_and_lasts_from_the_reading_of_the_clock() -> None:
    lease = Lease(SECONDS, 100.0)
    assert lease.is_over(100.0)
    lease.renew(103.0)
    assert not lease.is_over(112.9)
    assert lease.is_over(113.0)


def test_an_older_stamp_takes_nothing_away() -> None:
    lease = Lease(SECONDS, 100.0)
    lease.renew(105.0)
    lease.renew(101.0)
    assert not lease.is_over(114.0)


def test_a_renewal_whose_answer_is_lost_counts_from_when_it_was_sent() -> None:
    fence = Fence(SECONDS, MARGIN, 0.0)
    before = fence.at
    fence.heard(1000.0, 5.0)
    assert fence.at == before  # receiving a message gives no lease
    fence.grant()
    assert fence.at == before + 5.0

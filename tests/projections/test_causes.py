"""From a record back to the command that caused it."""

from dataclasses import dataclass

from histories import BEGIN

from tasktrail.events import Created, Recorded, Started
from tasktrail.events.task_events import Failed, Retried
from tasktrail.projections.causes import MOST, Chain, TreePlace, chain_to, tree


@dataclass
class Log:
    """Records by position, all of one task."""

    records: list[Recorded]

    def read(self, position: int) -> Recorded | None:
        return next((record for record in self.records if record.position == position), None)

    def before(self, record: Recorded) -> Recorded | None:
        return next((one for one in self.records if one.version == record.version - 1), None)

    def chain(self, position: int) -> Chain:
        record = self.read(position)
        assert record is not None
        return chain_to(record, self.read, self.before)


def positions(chain: Chain) -> list[int]:
    return [record.position for record in chain.records]


LIFE = Log(
    [
        Recorded(1, 1, Created(type="t"), BEGIN, command_id="abc", causation_id="command:abc", position=10),
        Recorded(1, 2, Started(), BEGIN, position=20),
        Recorded(1, 3, Failed(outcome="failed", error="no", final=False), BEGIN, causation_id="event:20", position=30),
        Recorded(1, 4, Retried(cause="rule"), BEGIN, causation_id="event:30", position=31),
        Recorded(1, 5, Started(), BEGIN, position=40),
    ]
)


def test_a_chain_begins_with_the_command_that_everything_came_from() -> None:
    chain = LIFE.chain(40)
    assert positions(chain) == [10, 20, 30, 31, 40]
    assert (chain.command_id, chain.complete) == ("abc", True)
    assert positions(LIFE.chain(10)) == [10]


def test_a_cause_that_cannot_be_seen_ends_the_chain_and_it_says_so() -> None:
    chain = Log([record for record in LIFE.records if record.position != 20]).chain(40)
    assert positions(chain) == [30, 31, 40]
    assert (chain.command_id, chain.complete) == ("", False)


def test_causes_that_run_in_a_circle_or_come_later_end_the_chain() -> None:
    itself = Log([Recorded(1, 1, Created(type="t"), BEGIN, causation_id="event:5", position=5)])
    assert (positions(itself.chain(5)), itself.chain(5).complete) == ([5], False)
    later = Log([Recorded(1, 1, Created(type="t"), BEGIN, causation_id="event:9", position=5)])
    assert not later.chain(5).complete


def test_a_long_chain_is_cut() -> None:
    records = [
        Recorded(1, n, Retried(cause="rule"), BEGIN, causation_id=f"event:{n - 1}", position=n) for n in range(1, 60)
    ]
    chain = Log(records).chain(59)
    assert positions(chain) == list(range(60 - MOST, 60))
    assert not chain.complete


def test_each_record_of_a_task_stands_below_the_one_that_led_to_it() -> None:
    places = tree(LIFE.records)
    assert places[10] == TreePlace(0, 0), "a command led to it"
    assert [(position, places[position].cause, places[position].depth) for position in (20, 30, 31, 40)] == [
        (20, 10, 1),
        (30, 20, 2),
        (31, 30, 3),
        (40, 31, 4),
    ]
    elsewhere = Recorded(1, 9, Retried(cause="rule"), BEGIN, causation_id="event:3", position=99)
    assert tree([elsewhere])[99] == TreePlace(3, 0), "a record of another task led to it"

"""A log of several nodes is played as if one machine had all the workers, and the answer says so."""

from core_harness import Core
from test_nodes import cluster

from tasktrail.config.settings import Config
from tasktrail.events.commands import DrainNode, UndrainNode
from tasktrail.whatif.ask import what_if


def test_what_ran_on_nodes_runs_in_the_replay_and_the_answer_says_what_was_not_played() -> None:
    core = cluster(Core(max_concurrent=20), a={"labels": {"zone": "a"}}, b={"labels": {"zone": "b"}})
    for number in range(4):
        task_id = core.create(requires={"zone": "a"} if number % 2 else {})
        core.wait(5)
        core.end(task_id)
        core.wait(1)
    answer = what_if(list(core.log.read()), Config(workers=6))
    assert (answer.fidelity.recorded_starts, answer.fidelity.replayed_starts) == (4, 4)
    assert any("nodes are not played" in said for said in answer.assumptions)


def test_a_drain_of_the_machine_is_played() -> None:
    core = Core(slots=1)
    core.send(DrainNode(node="local", actor="ann"))
    core.wait(1)
    core.create()
    core.wait(100)
    core.send(UndrainNode(node="local", actor="ann"))
    core.wait(5)
    core.end(1)
    answer = what_if(list(core.log.read()), Config(workers=1))
    assert answer.fidelity.exact
    assert not any("nodes" in said for said in answer.assumptions)

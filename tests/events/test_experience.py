"""The lessons from the past of a type: bounded, the same at every replay, and without a decision of their own."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.events.estimates import ENOUGH, MEMORY_BOUNDS, TEMP_BOUNDS, TIME_BOUNDS, WINDOW, Correction, Experience
from tasktrail.events.state import TaskState, create, evolve
from tasktrail.events.task_events import Completed, Created, Estimated, Failed, Retried, Started

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MEMORY, TEMP, SECONDS = 1000, 5000, 10.0
RATIOS = st.lists(st.floats(min_value=0.001, max_value=1000), max_size=3 * WINDOW)


def running(*, resumed: bool = False, guessed_memory: int = 0, guessed_time: float = SECONDS) -> TaskState:
    spec = Created(
        type="t",
        estimated_memory=MEMORY,
        estimated_temp=TEMP,
        guessed_memory=guessed_memory,
        guessed_time=guessed_time,
    )
    return evolve(create(1, spec, NOW), Started(resumed=resumed), NOW)


def taught(ratios: list[float], task: TaskState | None = None) -> Experience:
    experience = Experience()
    for ratio in ratios:
        event = Completed(
            memory_used=max(1, int(MEMORY * ratio)), temp_used=max(1, int(TEMP * ratio)), time_used=SECONDS * ratio
        )
        experience.learn(task or running(), event)
    return experience


@given(RATIOS)
def test_a_correction_stays_within_its_bounds(ratios: list[float]) -> None:
    correction = taught(ratios).correction()

    assert MEMORY_BOUNDS[0] <= correction.memory <= MEMORY_BOUNDS[1]
    assert TEMP_BOUNDS[0] <= correction.temp <= TEMP_BOUNDS[1]
    assert TIME_BOUNDS[0] <= correction.seconds <= TIME_BOUNDS[1]


@given(RATIOS)
def test_the_corrected_space_suffices_for_nearly_all_that_is_remembered(ratios: list[float]) -> None:
    correction = taught(ratios).correction()
    for estimate, factor, bounds in ((MEMORY, correction.memory, MEMORY_BOUNDS), (TEMP, correction.temp, TEMP_BOUNDS)):
        remembered = [int(estimate * ratio) for ratio in ratios[-WINDOW:]]
        allowed = estimate * factor + 1e-6

        if len(remembered) >= ENOUGH:
            above = sum(used > allowed for used in remembered if used <= estimate * bounds[1])
            assert above <= 0.05 * len(remembered)


@given(RATIOS, st.floats(min_value=0.5, max_value=4))
def test_what_is_learnt_does_not_depend_on_the_correction_that_was_in_force(ratios: list[float], factor: float) -> None:
    spec = Created(
        type="t",
        estimated_memory=int(MEMORY * factor),
        estimated_temp=int(TEMP * factor),
        guessed_memory=MEMORY,
        guessed_temp=TEMP,
        guessed_time=SECONDS,
        estimated_time=99.0,
    )
    corrected = evolve(create(1, spec, NOW), Started(), NOW)

    assert taught(ratios, corrected).correction() == taught(ratios).correction()


@given(RATIOS)
def test_the_past_is_forgotten_after_a_while(ratios: list[float]) -> None:
    assert taught([*ratios, *[1.5] * WINDOW]).correction() == Correction(memory=1.5, temp=1.5, seconds=1.5)


def test_little_experience_says_nothing() -> None:
    assert taught([3.0] * (ENOUGH - 1)).correction() == Correction()
    assert taught([3.0] * ENOUGH).correction() == Correction(memory=3.0, temp=3.0, seconds=3.0)


def test_one_odd_run_moves_space_up_and_time_not_at_all() -> None:
    correction = taught([*[1.0] * 9, 3.0]).correction()

    assert correction == Correction(memory=3.0, temp=3.0, seconds=1.0)


def test_an_attempt_that_went_on_from_a_checkpoint_teaches_nothing() -> None:
    assert taught([3.0] * WINDOW, running(resumed=True)).correction() == Correction()


def test_no_less_is_reserved_than_a_look_into_the_input_will_ask_for() -> None:
    looked = Estimated(memory=900, temp=4000, seconds=1.0)
    ended = Completed(memory_used=300, temp_used=500, time_used=SECONDS, estimate=looked)
    failed = Failed(outcome="interrupted", error="too little was reserved", final=False, estimate=looked)
    again = evolve(running(), failed, NOW)
    again = evolve(again, Retried(cause="estimate", estimate=looked), NOW)
    again = evolve(again, Started(), NOW)
    for task, event in ((running(), ended), (again, replace(ended, estimate=None))):
        experience = Experience()
        for _ in range(ENOUGH):
            experience.learn(task, event)

        assert experience.correction() == Correction(memory=0.9, temp=0.8, seconds=1.0)


def test_what_was_not_estimated_or_not_measured_teaches_nothing() -> None:
    experience = Experience()
    for _ in range(WINDOW):
        experience.learn(running(guessed_time=0.0), Completed(memory_used=0, time_used=5.0))

    assert experience.correction() == Correction()

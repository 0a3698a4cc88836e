"""The model of films on more CPUs. Its results for a real film belong to the benchmark."""

import pytest
from more_cores import Times, model

TIMES = Times(start=1.0, pieces=(0.5, *[4.0] * 8), join=2.0, frames=1000)


@pytest.mark.parametrize(("cpus", "length"), [(1, 35.5), (2, 19.5), (4, 11.5), (16, 7.0), (64, 7.0)])
def test_pieces_are_given_to_the_cpus_in_their_order(cpus: int, length: float) -> None:
    assert model(TIMES, cpus) == length


def test_no_film_is_done_before_its_frames_have_passed_through_python() -> None:
    slow = Times(start=1.0, pieces=TIMES.pieces, join=2.0, frames=1000, frame_in_python=0.01)
    assert model(slow, 1) == 35.5
    assert model(slow, 64) == 13.0


def test_a_longer_film_has_the_same_pieces_more_often() -> None:
    assert model(TIMES.repeated(6), 1) == pytest.approx(6 * 35.5)
    assert model(TIMES.repeated(6), 8) < 6 * model(TIMES, 8)

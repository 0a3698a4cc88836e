"""What the demo draws fits a terminal, and says what it is about."""

import io

import pytest
from rich.console import Console

from tasktrail.demo.story import OTHERS, progress_bars


@pytest.mark.parametrize("width", [80, 120])
def test_every_row_has_its_percentage_however_long_name_and_message_are(width: int) -> None:
    """On 80 columns it was left out, and so was the bar: all that the name took."""
    screen = io.StringIO()
    bars = progress_bars(Console(file=screen, width=width, force_terminal=True, color_system=None))
    for number, (task_type, sample, *_) in enumerate(OTHERS, 1):
        name = f"{number} {task_type} {sample.name}"
        bars.add_task(name, total=100, completed=10 * number, message="encoding segments 10, 11 of 12, 25 fps")
    rows = bars.console.render_lines(bars.get_renderable(), pad=False)
    lines = ["".join(segment.text for segment in row) for row in rows]
    assert len(lines) == len(OTHERS)
    for number, line in enumerate(lines, 1):
        assert f"{number} {OTHERS[number - 1][0]}" in line
        assert f" {10 * number} % encoding" in line
        assert line.rstrip().endswith(":00")
        assert "━" in line or "╸" in line

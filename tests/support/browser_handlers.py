"""Task types for a browser to watch: they do what the test tells them, when it tells them."""

import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.handlers import Stopped, TaskContext, Unusable, handler


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the test writes its instructions."""

    words: str


@handler("staged", options=Stage, resumable=True, needs_input=False, needs_output=False)
def staged(context: TaskContext[Stage]) -> Stopped | dict[str, int] | None:
    """Follow a file line by line: `40 half of it`, `end`, or `fail because`."""
    path, told = Path(context.options.words), 0
    while not context.should_stop():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for line in lines[told:]:
            if not line.endswith("\n"):
                break
            told += 1
            first, _, rest = line.strip().partition(" ")
            print(f"told: {line.strip()}", flush=True)
            if first == "end":
                return {"lines": told}
            if first == "fail":
                raise Unusable(rest)
            context.progress(float(first), rest)
            context.save_checkpoint(Checkpoint(processed_frames=told), progress=float(first))
        time.sleep(0.02)
    return Stopped()


class Border(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line round it."""

    width: Annotated[int, msgspec.Meta(ge=0, le=50, description="In pixels.")] = 0
    colour: Literal["black", "white"] = "black"


class Print(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of every kind."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=40, description="What stands above it.")]
    copies: Annotated[int, msgspec.Meta(ge=1, le=100, description="How many.")] = 1
    scale: Annotated[float, msgspec.Meta(gt=0, le=4)] | None = None
    paper: Annotated[Literal["a3", "a4", "letter"], msgspec.Meta(description="Its size.")] = "a4"
    both_sides: Annotated[bool, msgspec.Meta(description="Whether the back is printed, too.")] = True
    colours: tuple[Literal["cyan", "magenta", "yellow"], ...] = ()
    marks: dict[str, int] = {}
    border: Border = Border()

    def __post_init__(self) -> None:
        if self.copies > 1 and not self.both_sides:
            raise ValueError("copies: more than one needs both_sides")


@handler("print", options=Print, needs_input=False, needs_output=False)
def print_(context: TaskContext[Print]) -> dict[str, int]:
    """Print nothing, with options of every kind."""
    return {"copies": context.options.copies}


@handler("a_type_whose_name_" + "goes_on_" * 8 + "for_long", needs_input=False, needs_output=False)
def long_named(context: TaskContext[None]) -> None:
    """Nothing, under a name that is hard to fit into a page."""

"""A task type that repeats what it is given wherever a handler can leave something."""

from typing import Any

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.handlers import TaskContext, Unusable, handler


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """Options: what is left where."""

    printed: str = ""
    told: str = ""
    saved: str = ""
    returned: str = ""
    complained: str = ""
    drawn: str = ""


@handler("telltale", options=Words, needs_input=True, needs_output=True, output_suffix=".out")
def telltale(context: TaskContext[Words]) -> dict[str, Any]:
    """Print, report, save, write and answer the words."""
    words = context.options
    print(words.printed)
    context.temp_file("left-", ".txt").write_text(words.drawn)
    context.progress(10, words.told)
    context.save_checkpoint(Checkpoint(data={"words": words.saved}))
    if words.complained:
        raise Unusable(words.complained)
    context.output_part.write_text("written")
    return {"words": words.returned}

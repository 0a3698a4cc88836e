"""A task type of one's own: count the words of a large text, and lose nothing when killed on the way."""

from typing import Any

from tasktrail import Checkpoint, Finished, Stopped, TaskContext, handler


@handler("word_count", resumable=True, needs_input=True, needs_output=True)
def word_count(context: TaskContext[Any]) -> Finished | Stopped:
    """Count the words and lines of a text."""
    done = context.checkpoint or Checkpoint(data={"words": 0, "lines": 0})
    size = context.input_file.stat().st_size
    with context.input_file.open("rb") as text:
        text.seek(done.processed_bytes)
        while some := text.readlines(1_000_000):
            words = done.data["words"] + sum(len(line.split()) for line in some)
            counts = {"words": words, "lines": done.data["lines"] + len(some)}
            done = Checkpoint(processed_bytes=text.tell(), data=counts)
            context.save_checkpoint(done, progress=100 * text.tell() / size, message=f"{words:,} words")
            if context.should_stop():
                return Stopped()
    context.output_part.write_text("{words} words in {lines} lines\n".format(**done.data))
    return Finished(result=done.data)

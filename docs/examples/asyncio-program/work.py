"""The work itself: a function that is a task type."""

from tasktrail import task


@task
def square(number: int) -> int:
    """Square a number."""
    return number**2

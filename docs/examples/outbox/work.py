"""The work itself: a function that is a task type."""

from tasktrail import task


@task
def invoice(order: int, article: str) -> str:
    """Write the invoice of an order."""
    return f"one {article} for order {order}"

"""What only the actors can refuse."""

from ..events import TasktrailError


class EndpointDisabled(TasktrailError):
    """The receiver answered 410 Gone, so nothing is sent to it."""

    code = "endpoint_disabled"
    status = 409
    title = "The endpoint is disabled"
    remedy = "Enable it first: `tasktrail enable URL`; `tasktrail endpoints` lists those that are disabled."


class UnknownEndpoint(TasktrailError):
    """No endpoint with this address is disabled."""

    code = "unknown_endpoint"
    status = 404
    title = "There is no such disabled endpoint"
    remedy = "List them with `tasktrail endpoints`; the whole address counts."

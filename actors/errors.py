"""What operators' commands can be refused for, and what else only the actors can refuse."""

from ..events import TasktrailError


class NothingToChange(TasktrailError):
    """The command asks for what is so already, or for nothing."""

    code = "nothing_to_change"
    status = 409
    title = "There is nothing to change"
    remedy = "`tasktrail limits` shows the limits and pauses that hold."


class ScheduleExists(TasktrailError):
    """A schedule of this name is there already."""

    code = "schedule_exists"
    status = 409
    title = "The schedule is there already"
    remedy = "Remove it first, or choose another name."


class UnknownSchedule(TasktrailError):
    """No schedule has this name."""

    code = "unknown_schedule"
    status = 404
    title = "There is no such schedule"
    remedy = "List them with `tasktrail schedule list`."


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

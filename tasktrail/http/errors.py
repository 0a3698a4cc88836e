"""What only HTTP can refuse. The domain's own refusals are in `events/errors.py`."""

from ..events import TasktrailError


class UnknownRoute(TasktrailError):
    """Nothing answers at this path."""

    code = "unknown_route"
    status = 404
    title = "There is no such route"
    remedy = "GET /openapi.json lists the routes."


class WrongMethod(TasktrailError):
    """The path exists, but not for this method."""

    code = "wrong_method"
    status = 405
    title = "The route does not know this method"
    remedy = "The header `Allow` names the methods it knows."


class WrongContentType(TasktrailError):
    """A body that is not declared as JSON. Asking for it keeps web pages of others from sending commands."""

    code = "wrong_content_type"
    status = 415
    title = "The body is not declared as JSON"
    remedy = "Send the header `Content-Type: application/json`."


class TooLarge(TasktrailError):
    """The body is larger than what one request may carry."""

    code = "too_large"
    status = 413
    title = "The request is too large"
    remedy = "Send less at a time: several arrays of commands, smaller options."


class WrongHost(TasktrailError):
    """The request names another host than this one: a rebound name must not lead a browser here."""

    code = "wrong_host"
    status = 421
    title = "The request is for another host"
    remedy = "Use localhost, 127.0.0.1 or [::1] in the address."


class WrongOrigin(TasktrailError):
    """A web page of another origin sends the request."""

    code = "wrong_origin"
    status = 403
    title = "The request comes from another web page"
    remedy = "Only programs and this service's own pages may call it."


class BadRequest(TasktrailError):
    """The framework refuses the request before any of our code has seen it."""

    code = "bad_request"
    status = 400
    title = "The request cannot be handled"
    remedy = "GET /openapi.json describes the routes."


class ListenFailed(TasktrailError):
    """The service cannot listen at the address it was given."""

    code = "listen_failed"
    status = 500
    title = "The address cannot be used"
    remedy = "Choose another host or port; port 0 takes any free one."

"""The errors around handlers: of their registration, their output, their temp files."""

from ..events.errors import HandlerFault, TasktrailError


class DuplicateType(HandlerFault):
    """Two handlers claim the same task type. The first one found keeps it."""

    code = "duplicate_type"
    title = "A task type is claimed twice"
    remedy = 'Give one of the two another name, as in @task("NAME") and @handler("NAME").'


class BrokenHandlers(HandlerFault):
    """A module of handlers cannot be imported or holds none."""

    code = "broken_handlers"
    title = "Handlers cannot be loaded"
    remedy = "Repair or uninstall the package, or take the module out of `handlers` in the configuration."


class InvalidFunction(HandlerFault):
    """The function that `@task` stands on cannot become a task type."""

    code = "invalid_function"
    title = "No task type can be made of the function"
    remedy = "Correct the function or what is given to @task."


class PackageMissing(HandlerFault):
    """The type imports packages that are not installed. A plain install has none of those for the built-in types."""

    code = "package_missing"
    status = 501
    title = "A package that the type needs is not installed"
    remedy = "Install it in the environment that the service runs in."


class ResultsMissing(HandlerFault):
    """The handler asks for the results of its dependencies, and they could not be passed to it."""

    code = "results_missing"
    title = "The results of dependencies are missing"
    remedy = "Let them write files and return the names, or depend on fewer tasks at a time."


class OutputMissing(HandlerFault):
    """The handler said it is done but wrote nothing."""

    code = "output_missing"
    title = "There is no output"
    remedy = (
        "Write to the OutputFile that the function is given, in a handler to context.output_part; or leave the "
        "parameter, or needs_output=True, out."
    )


class BadAnswer(HandlerFault):
    """The handler returned, or reported, something that cannot be recorded."""

    code = "bad_answer"
    title = "The handler's answer cannot be recorded"
    remedy = "Use plain JSON: text, numbers, lists and dicts. Keep large data in files."


class PartMissing(HandlerFault):
    """This node cannot see a part of a film that was spread. It will look again."""

    code = "part_missing"
    title = "A part of the film is not there"
    remedy = "Let all nodes see the output's folder at the same path. If the part is lost, convert the film again."


class InputChanged(HandlerFault):
    """The input differs from what the attempt opened: it was cut, written to, replaced or removed meanwhile."""

    code = "input_changed"
    title = "The input changed while it was read"
    remedy = "Wait until the file is whole and no program writes to it, then retry the task: it begins from zero."


class CheckpointRefused(TasktrailError):
    """The checkpoint was not recorded, because the attempt must end."""

    code = "checkpoint_refused"
    title = "The checkpoint was not recorded"
    remedy = "Let the exception end the handler; the next attempt goes on from the checkpoint before."


class MemoryLimitReached(HandlerFault):
    """The attempt wanted more memory than its limit allows, and its handler could not cope with less."""

    code = "memory_limit_reached"
    title = "The attempt reached its memory limit"
    remedy = "Look at the input; if it is in order, raise the type's estimate, or worker_memory_limit."


class CpuLimitReached(HandlerFault):
    """The attempt, its child processes included, used more CPU time than its limit. It was ended."""

    code = "cpu_limit_reached"
    title = "The attempt reached its CPU limit"
    remedy = "Look at the input; if it is in order, set estimated_time of the task, or cpu_limits in the configuration."


class FileSizeLimitReached(HandlerFault):
    """The attempt wrote a file many times larger than estimated."""

    code = "file_size_limit_reached"
    title = "The attempt reached its limit for the size of a file"
    remedy = "Look at the input; if it is in order, raise the type's estimate of temp space."


class TempQuotaReached(HandlerFault):
    """The attempt's temp files, its unpublished output included, grew beyond the task's quota. It was stopped."""

    code = "temp_quota_reached"
    status = 507
    title = "The attempt reached its quota of temp space"
    remedy = "Look at the input; if it is in order, raise the type's estimate of temp space, or max_task_temp."


class ManifestMissing(HandlerFault):
    """The output could not be given the C2PA manifest that the configuration asks for, so it was not published."""

    code = "manifest_missing"
    title = "The output could not be given its manifest"
    remedy = "Look at c2pa_certificate and c2pa_key."


class CertificateOutOfDate(HandlerFault):
    """A certificate of `c2pa_certificate` has expired, or is not valid yet. The attempt stopped before its work."""

    code = "certificate_out_of_date"
    title = "Manifests cannot be signed now"
    remedy = "Put valid certificates at c2pa_certificate, start the service again, and retry the task."


class StorageMissing(HandlerFault):
    """The address of an input or output elsewhere names nothing: no object, no bucket, no page."""

    code = "storage_missing"
    status = 404
    title = "There is nothing at the address"
    remedy = "Check the address, then create the task again."


class StorageDenied(HandlerFault):
    """The server refuses the service access, or the configuration does not allow the address."""

    code = "storage_denied"
    status = 403
    title = "The file elsewhere may not be reached"
    remedy = "Give the service's user the right to it, then retry the task; `tasktrail doctor` looks at each place."


class StorageUnreachable(HandlerFault):
    """The server does not answer, or the connection broke. A retry follows, up to `max_retries`."""

    code = "storage_unreachable"
    status = 503
    title = "The place of a file cannot be reached"
    remedy = "See that the server runs and that this machine reaches it, then retry the task."


class StorageFailed(HandlerFault):
    """A file could not be moved from or to elsewhere, for another reason, which the message names."""

    code = "storage_failed"
    title = "A file could not be moved"
    remedy = "Look at the message, then retry the task."


class InputTooLarge(HandlerFault):
    """The input elsewhere has more bytes than temp space may hold."""

    code = "input_too_large"
    status = 413
    title = "The input is too large to be fetched"
    remedy = "Have the operator raise `max_temp_size`, or copy the file to this machine."

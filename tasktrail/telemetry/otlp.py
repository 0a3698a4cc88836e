"""OTLP over HTTP, by the OpenTelemetry SDK's exporter. It is loaded only when used; the extra `otel` installs it."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from .. import __version__
from ..actors.logger import get_logger
from ..events.errors import ConfigurationError
from .spans import TraceSpan
from .tracing import Receiver

_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PATH = "/v1/traces"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTALL = "pip install 'tasktrail[otel]' in the service's environment, or take `otel_endpoint` out."

logger = get_logger("tasktrail.traces")


def receiver_for(endpoint: str, environ: Mapping[str, str]) -> Receiver | None:
    """Return the receiver set by the key `otel_endpoint` or by OpenTelemetry's own variables; None without either.

    If the extra is missing: raises `ConfigurationError` when the key is set. A variable may be meant for other
    programs, so then only the log says that no traces are made.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    if not endpoint and not any(environ.get(name) for name in _VARIABLES):
        return None
    try:
        return OtlpReceiver(f"{endpoint.rstrip('/').removesuffix(_PATH)}{_PATH}" if endpoint else None)
    except ImportError as error:
        if endpoint:
            raise ConfigurationError(
                f"`otel_endpoint` is set, and {error.name} is not installed", remedy=_INSTALL
            ) from error
        logger.warning("no traces are made: the extra `otel` is not installed", missing=error.name)
        return None


class OtlpReceiver:
    """Sends spans. Without an address the exporter uses that of the environment; it always uses its headers."""

    def __init__(self, address: str | None) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        # The exporter logs each failure with the address; we log once. Records of other programs' exporters stay.
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(_is_of_others)
        self._span: Any = ReadableSpan
        self._success: Any = SpanExportResult.SUCCESS
        ours = Resource.create({"service.version": __version__, "service.name": "tasktrail"})
        self._resource = ours.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME and the other variables win
        self._scope = InstrumentationScope("tasktrail", __version__)
        self._exporter = OTLPSpanExporter(endpoint=address)

    def send(self, spans: Sequence[TraceSpan]) -> bool:
        """See `Receiver`."""
        try:
            answer: Any = self._exporter.export([self._made(span) for span in spans])
        except Exception as error:  # noqa: BLE001 - whatever the library raises, only the spans are lost
            logger.warning("spans could not be sent", error=type(error).__name__)
            return False
        return bool(answer is self._success)

    def close(self) -> None:
        """See `Receiver`."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _made(self, span: TraceSpan) -> Any:
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        def context(span_id: str, *, remote: bool) -> SpanContext:
            flags = TraceFlags(TraceFlags.SAMPLED)
            return SpanContext(int(span.trace_id, 16), int(span_id, 16), is_remote=remote, trace_flags=flags)

        attributes = {**span.attributes, **({"error.type": span.error} if span.error else {})}
        return self._span(
            span.name,
            context=context(span.span_id, remote=False),
            parent=context(span.parent, remote=True) if span.parent else None,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind[span.kind.upper()],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=_nanoseconds(span.began),
            end_time=_nanoseconds(span.ended),
            instrumentation_scope=self._scope,
        )


def _is_of_others(record: logging.LogRecord) -> bool:
    return not (record.threadName or "").startswith("traces-")


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000

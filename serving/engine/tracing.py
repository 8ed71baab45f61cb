"""Traces: one span for each sampled request, sent to an OTLP collector; where none is named, nothing here exists.

Spans are made when the answer is there, and leave in a thread of their own.
"""

import random
import time
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, Status, StatusCode, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.engine.trace_context import Parent, Trace

QUEUE_SPANS = 2048
"""Spans that may wait to be sent; beyond it they are dropped and counted."""

_BATCH_SPANS = 256
_DELAY_MS = 1000
_SEND_SECONDS = 3.0
_CLOSE_SECONDS = 3.0
_NS_PER_MS = 1e6
_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans and sends them; all methods but ``close`` are called on the event loop."""

    def __init__(self, endpoint: str, service: str, rate: float, worker: int) -> None:
        """Take the collector's URL, the service's name, the rate for requests without a trace, and the worker."""
        self._rate = rate
        self._exporter = _Counted(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_SEND_SECONDS))
        self._made = 0
        self._refused = 0
        resource = Resource.create({"service.name": service, "service.instance.id": str(worker)})
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=2 * QUEUE_SPANS,
                schedule_delay_millis=_DELAY_MS,
                max_export_batch_size=_BATCH_SPANS,
            )
        )
        self._tracer = self._provider.get_tracer("burnish")

    @property
    def exported(self) -> int:
        """Spans that the collector took."""
        return self._exporter.exported

    @property
    def dropped(self) -> int:
        """Spans that it did not get: too many waited, or it did not answer."""
        return self._refused + self._exporter.failed

    def begin(self, parent: Parent | None) -> Trace | None:
        """Return what a sampled request is followed by; None if it is not sampled: its parent says, or the rate."""
        wanted = parent.sampled if parent is not None else random.random() < self._rate
        return Trace(parent) if wanted else None

    def end(self, trace: Trace, request_id: str | None, status: str, *, failed: bool) -> str | None:
        """Make the span of a request that is over; return its traceparent, or None if it is dropped."""
        if self._made - self._exporter.taken >= QUEUE_SPANS:
            self._refused += 1
            return None
        self._made += 1
        attributes: dict[str, str | int | float] = {"burnish.status": status}
        if request_id is not None:
            attributes["burnish.request_id"] = request_id
        if trace.slot is not None:
            attributes["burnish.model"] = trace.slot.model
            attributes["burnish.version"] = trace.slot.served.version
            attributes["burnish.artifact"] = trace.slot.served.artifact.sha256
            attributes["burnish.queue_ms"] = trace.queue_ns / _NS_PER_MS
            attributes["burnish.compute_ms"] = trace.compute_ns / _NS_PER_MS
        span = self._tracer.start_span(
            "infer", _context(trace.parent), SpanKind.SERVER, attributes, start_time=trace.started_ns
        )
        if failed:
            span.set_status(Status(StatusCode.ERROR, status))
        span.end()
        context = span.get_span_context()
        return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-01"

    def close(self) -> None:
        """Send what waits, within a bound."""
        self._exporter.deadline = time.monotonic() + _CLOSE_SECONDS
        self._provider.shutdown()


class _Counted(SpanExporter):
    """Counts what another exporter does with spans, and gives up after a deadline."""

    def __init__(self, inner: SpanExporter) -> None:
        self.taken = 0
        self.exported = 0
        self.failed = 0
        self.deadline: float | None = None
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        late = self.deadline is not None and time.monotonic() >= self.deadline
        result = SpanExportResult.FAILURE if late else self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


def _context(parent: Parent | None) -> Context:
    carrier = {"traceparent": parent.traceparent, "tracestate": parent.tracestate} if parent is not None else {}
    return _PROPAGATOR.extract(carrier, Context())

"""A span for each step, joined across the chain. `OTEL_EXPORTER_OTLP_ENDPOINT` says where they go.

The first import of your pipelines: then it is set up in each process of a worker.
"""

from celery.signals import task_prerun
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler


class Steps(Sampler):
    """Keep the spans of steps; leave out ticks, polls and sweeps, which run all the time."""

    def should_sample(self, parent_context, trace_id, name, *args, **kwargs):
        """Decide by the name of the task."""
        sampler = ALWAYS_ON if "b24offline.step." in name else ALWAYS_OFF
        return sampler.should_sample(parent_context, trace_id, name, *args, **kwargs)

    def get_description(self):
        """Name this sampler."""
        return "b24offline steps"


provider = TracerProvider(sampler=Steps(), resource=Resource.create({"service.name": "b24offline"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
CeleryInstrumentor().instrument()


@task_prerun.connect(weak=False)
def say_what_it_is_about(task=None, **_):
    """Write portal, event and object into the span of a step: ids only."""
    trace.get_current_span().set_attribute("b24offline.run", task.request.argsrepr or "")

"""Traces: with OpenTelemetry installed and set up there is nothing else to do."""

# [telemetry]
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from jobwire import App

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: f"{span.name}\n")))
trace.set_tracer_provider(provider)

app = App()


@app.task("order.ship", queue="orders")
async def ship(order: int) -> str:
    with trace.get_tracer(__name__).start_as_current_span("pack"):
        return f"shipped {order}"


# [/telemetry]


def main() -> None:
    with trace.get_tracer(__name__).start_as_current_span("request"):
        ship.run(7)  # "pack" in "process orders" in "enqueue orders" in "request", in whichever process


if __name__ == "__main__":
    main()

"""A task for child processes, in a module that they can import."""

from __future__ import annotations

from opentelemetry import trace

from jobwire import App, Context

app = App()


@app.task("burn", executor="process")
def burn(ctx: Context, n: int) -> dict[str, object]:
    span = trace.get_current_span().get_span_context()
    return {"current": f"{span.trace_id:032x}-{span.span_id:016x}", "headers": dict(ctx.headers), "n": n}

"""A worker with what a deployment wants: queues with weights, a grace period, a health endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobwire import App, Context, Queue

app = App()


# [around]
@app.around
@contextmanager
def session(ctx: Context) -> Iterator[None]:
    """Surrounds every handler: a database session, a lock, a scope."""
    print("open for", ctx.type)
    try:
        yield
    finally:
        print("closed")


# [/around]


@app.task("nightly.sweep", queue="nightly")
def sweep() -> str:
    return "swept"


# [worker]
def main() -> None:
    worker = app.worker(
        queues=["nightly", Queue("reports", weight=1, max_slots=5)],
        concurrency=50,
        grace="25s",  # below Kubernetes' 30
        health=8080,  # /livez, /readyz, /metrics
    )
    worker.run()  # until SIGTERM or SIGINT


# [/worker]

if __name__ == "__main__":
    main()

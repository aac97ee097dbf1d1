"""What the documentation shows about handlers, events, errors and tests."""

from __future__ import annotations

from typing_extensions import assert_type

from jobwire import (
    App,
    Context,
    Discard,
    JobFailed,
    JobwireError,
    LogEvent,
    NonRetryable,
    ProgressEvent,
    Release,
    RetryAfter,
    Snooze,
    StateEvent,
    current_context,
)
from jobwire.testing import Enqueued, FakeJobs, fake, inline, test_server

app = App()


@app.task("work")
def work(ctx: Context, rows: list[dict[str, int]], dry: bool = False) -> int:
    ctx.raise_if_cancelled()
    if ctx.wait_cancelled(0.1):
        raise Release("later")
    for number, _ in enumerate(rows):
        ctx.progress(current=number, total=len(rows), data={"at": number})
    ctx.save_checkpoint({"rows": len(rows)})
    ctx.enqueue(work.opts(delay="1m").s([]), always=True)
    ctx.enqueue("other", {"a": 1}, priority=1)
    match len(rows):
        case 0:
            raise Snooze("60s", throttle="queue")
        case 1:
            raise RetryAfter("30s")
        case 2:
            raise NonRetryable("hopeless")
        case 3:
            raise Discard("useless")
        case _:
            ctx.log.info("attempt %d of %d", ctx.attempt, ctx.max_attempts)
            return len(rows)


job = work.enqueue([{"a": 1}], dry=True)
try:
    assert_type(job.result(timeout="5m"), int)
except JobFailed as error:
    assert_type(error.job_id, str)
    print(error.failure.type if error.failure else "", error.code)
except JobwireError as error:
    print(error.reason, error.retry_delay)

for event in job.events():
    match event:
        case StateEvent(state, status):
            print(state.terminal, status.attempt)
        case ProgressEvent(progress):
            print(progress.percent)
        case LogEvent(message=message):
            print(message)

context = current_context()
if context is not None:
    assert_type(context.job_id, str)

with fake(app) as jobs:
    assert_type(jobs, FakeJobs)
    jobs.advance("10m")
    assert_type(jobs.assert_enqueued(work, {"rows": []}, times=1), list[Enqueued])
with inline(app):
    work.run([])
with test_server(store="embedded") as server, App(server.url) as real:
    real.enqueue("x")

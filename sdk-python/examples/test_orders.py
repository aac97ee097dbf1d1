"""Tests of an application: inline, with the fake's clock, and against a real server. Run with pytest."""

from collections.abc import Callable

from jobwire import App, Context, RetryAfter
from jobwire.testing import FakeJobs, inline

app = App()


@app.task("reminder.send")
def remind(ctx: Context, user: str) -> str:
    if ctx.attempt == 1:
        raise RetryAfter("10m")
    return f"reminded {user}"


# [inline]
def test_inline() -> None:
    with inline(app):
        assert remind.enqueue("ada").result() == "reminded ada"  # retries do not wait


# [/inline]


# [fake]
def test_reminders_wait_a_day(jobwire_fake: Callable[[App], FakeJobs]) -> None:
    jobs = jobwire_fake(app)
    job = remind.opts(delay="1d").enqueue("ada")
    jobs.assert_enqueued(remind, {"user": "ada"}, times=1)
    jobs.advance("1d")
    assert job.status().attempt == 1
    jobs.advance("10m")
    assert job.result() == "reminded ada"


# [/fake]


# [server]
def test_with_a_real_server(jobwire_server: str) -> None:
    with App(jobwire_server) as real:
        job = real.enqueue("nobody.home", {"a": 1})
        assert job.status().state.value == "ready"


# [/server]

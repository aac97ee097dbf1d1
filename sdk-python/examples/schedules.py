"""Schedules: declared beside the tasks, or put, paused and run again from anywhere with the right key."""

# [declare]
from datetime import datetime, timedelta, timezone

from jobwire import App, Context

app = App()


@app.task("report.build", queue="reports")
def build(ctx: Context, kind: str = "sales") -> str:
    # Of the tick, not of the clock: a run that is late, or a backfill, builds the report of its own day.
    day = (ctx.fire_time or datetime.now(timezone.utc)).date()
    return f"{kind} of {day}"


app.schedule("nightly-report", build.s("sales"), cron="30 2 * * 1-5", time_zone="Europe/Berlin", overlap="skip")


@app.schedule("sweep", every="15m", jitter="1m")
@app.task("cache.sweep")
def sweep() -> None: ...


# [/declare]


def main() -> None:
    # [client]
    put = app.schedules.put("monthly-report", build.s("all"), cron="0 6 1 * *", catch_up="all", catch_up_window="2d")
    print("created" if put.created else "there already", put.schedule.cron)
    print(app.schedules.preview(cron="30 2 * * *", time_zone="Europe/Berlin").description)

    app.schedules.pause("monthly-report", reason="the warehouse moves")
    print([schedule.id for schedule in app.schedules.list("paused = true")])
    app.schedules.resume("monthly-report")

    job = app.schedules.trigger("monthly-report", {"kind": "urgent"})  # now, besides its times
    print(job.result(timeout="20s")[:6])
    now = datetime.now(timezone.utc)
    missed = app.schedules.backfill("nightly-report", now - timedelta(days=7), now, dry_run=True)
    print(missed.ticks, "ticks")
    app.schedules.delete("monthly-report")  # its jobs stay
    # [/client]


if __name__ == "__main__":
    # [worker]
    app.worker(queues=["reports", "cache.sweep"]).run()  # puts the app's schedules, then takes jobs
    # [/worker]

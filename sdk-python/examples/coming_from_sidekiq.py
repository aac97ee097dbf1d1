"""What the first pages of Sidekiq do, in Jobwire: for teams that leave Ruby, or add a language to it."""

from datetime import datetime, timedelta, timezone

# [job]
from jobwire import App, Context, JobFailed, Retry, Unique

app = App()


@app.task(
    "hard_job",  # class HardJob; include Sidekiq::Job
    queue="sidekiq",  # sidekiq_options queue: "sidekiq"
    retry=Retry(max_attempts=3, delays=("20ms", "40ms")),  # sidekiq_options retry: 2; sidekiq_retry_in { … }
    retention="1h",
)
def hard_job(ctx: Context, name: str, count: int) -> str:  # def perform(name, count)
    ctx.log.info("working for %s", name)  # logger.info
    if count < 0:
        raise ArithmeticError("out of paper")  # retried, then in the dead set
    return f"sent {name}'s mail"


# [/job]


def main() -> None:
    # [enqueue]
    now = hard_job.enqueue("bob", 5)  # HardJob.perform_async("bob", 5)
    hard_job.opts(delay="5m").enqueue("bob", 5)  # HardJob.perform_in(5.minutes, "bob", 5)
    at = datetime.now(timezone.utc) + timedelta(minutes=5)
    hard_job.opts(at=at).enqueue("bob", 5)  # HardJob.perform_at(5.minutes.from_now, "bob", 5)
    hard_job.opts(queue="critical", delay="1h").enqueue("bob", 5)  # HardJob.set(queue: "critical").perform_in(…)
    bulk = hard_job.enqueue_many([("bob", n) for n in range(3)])  # HardJob.perform_bulk([["bob", 0], …])
    # [/enqueue]

    # [dead]
    doomed = hard_job.enqueue("bob", -1)
    try:
        doomed.result(timeout=20)
    except JobFailed:  # sidekiq_retries_exhausted
        status = doomed.status()
        print(status.attempt - 3, status.attempt, status.state.value)  # the DeadSet
        doomed.cancel("no one needs it")
    # [/dead]

    # [unique]
    once = hard_job.opts(unique=Unique("bob", scope="until_started"), delay="1h")  # unique_for, unique_until: :start
    first = once.enqueue("bob", 1)
    print(once.enqueue("bob", 1).id == first.id)
    first.cancel()
    # [/unique]
    print(now.result(timeout=20))
    print(len([item for item in bulk if item.error is None]))


if __name__ == "__main__":
    # [worker]
    worker = app.worker(queues=["sidekiq", "critical"], concurrency=5, grace="25s")  # sidekiq -q … -c 5 -t 25
    # [/worker]
    worker.start()
    main()
    worker.stop()

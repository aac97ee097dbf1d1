"""Looking after jobs, queues and workers from a program: what the command line does."""

from jobwire import App, RateLimit

app = App()


@app.task("mail.send", queue="mail", retry=1)
def send(to: str) -> None:
    if "@" not in to:
        raise ValueError(f"{to} is no address")


def main() -> None:
    for item in send.enqueue_many(["ada@example.com", "nobody"]):
        assert item.job is not None, item.error
        for _ in item.job.events():
            pass  # until it has ended

    # [jobs]
    for job in app.jobs.list("queue = mail AND state = DEAD"):
        print("dead:", job.failure and job.failure.message)
        print("attempts:", len(app.jobs.get(job.id).attempts))
    again = app.jobs.retry(filter='queue = mail AND failure.type = "ValueError"', spread="1m", dry_run=True)
    print("would retry", again.matched)
    print("deleted", app.jobs.delete(filter="queue = mail AND state = DEAD", force=True).affected)
    # [/jobs]

    # [queues]
    app.queues.set("mail", max_running=20, rate_limit=RateLimit(100, per="1m"))  # over all workers, at once
    app.queues.pause("mail", reason="SMTP is down", duration="1h")
    queue = app.queues.get("mail")
    print(queue.pause_reason, queue.stats.dead, queue.config["max_running"])
    app.queues.resume("mail")
    # [/queues]

    # [workers]
    for worker in app.workers.list("queue = mail"):
        print(worker.sdk, worker.state, worker.slots > 0)
    app.workers.quiet(filter='label.site = "berlin"', reason="a deploy")  # they finish what they have
    # [/workers]


if __name__ == "__main__":
    main()

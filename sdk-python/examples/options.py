"""Options: of a task, of a call, and what they make of repeats."""

from jobwire import App, Retry, Unique

app = App()


# [task]
@app.task(
    "report.build", queue="reports", timeout="2m", retry=Retry(max_attempts=5, initial_delay="2s"), tags=["reports"]
)
def build(customer: str, month: str) -> str:
    return f"{month} for {customer}"


# [/task]


def main() -> None:
    # [call]
    job = build.opts(delay="50ms", priority=2, ttl="1h").enqueue("acme", month="May")
    print(job.result(timeout="20s"))
    # [/call]

    # [once]
    first = build.opts(idempotency_key="order-7").enqueue("acme", "June")
    again = build.opts(idempotency_key="order-7").enqueue("acme", "June")  # the same job, for 24 h
    print(first.id == again.id)

    once = build.opts(delay="1h", unique=Unique("acme", on_conflict="replace"))
    waiting = once.enqueue("acme", "July")
    newer = once.enqueue("acme", "August")  # its input takes the place of the other's
    print(newer.id == waiting.id, newer.enqueued and newer.enqueued.status)
    # [/once]
    waiting.cancel()


if __name__ == "__main__":
    main()

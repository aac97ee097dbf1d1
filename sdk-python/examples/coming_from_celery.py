"""What Celery's own first steps do, in Jobwire. Needs a server (`jobwire dev`)."""

# [tasks]
from jobwire import App, JobFailed, NonRetryable, Retry, RetryAfter

app = App()  # JOBWIRE_URL, or jobwire://127.0.0.1:7420; no result backend to choose


@app.task("tutorial.add")
def add(x: int, y: int) -> int:
    return x + y


# [/tasks]


# [retries]
@app.task("tutorial.fetch", retry=Retry(max_attempts=5, initial_delay="50ms", multiplier=2), no_retry_on=(ValueError,))
def fetch(path: str, tries: int = 0) -> str:
    if not path.startswith("/"):
        raise ValueError(f"{path} is no path")  # dead at once, as autoretry_for without it
    if tries > 0:
        raise RetryAfter("1s")  # self.retry(countdown=1)
    if path == "/gone":
        raise NonRetryable("410 Gone")  # Reject(requeue=False)
    return f"body of {path}"


# [/retries]


def main() -> None:
    # [calling]
    result = add.enqueue(4, 4)  # add.delay(4, 4)
    later = add.opts(queue="tutorial.add", delay="50ms", ttl="1h").enqueue(2, 2)  # add.apply_async((2, 2), countdown=…)
    four = add(2, 2)  # add(2, 2): here and now, without a job
    # [/calling]

    # [results]
    print(add.job(result.id).id == result.id)  # AsyncResult(id), in another process
    print(result.result(timeout=20))  # result.get(timeout=20)
    print(result.status().state.value)  # result.state, .successful(), .failed(), .ready()
    try:
        fetch.enqueue("nowhere").result(timeout=20)
    except JobFailed as error:  # result.get() raises; result.traceback
        print(str(error).partition(": ")[2])
    # [/results]

    # [many]
    items = add.enqueue_many([(i, i) for i in range(10)])  # group(add.s(i, i) for i in range(10))()
    print([item.job.result(timeout=20) for item in items if item.job])  # .get()
    # [/many]
    print(later.result(timeout=20), four)


if __name__ == "__main__":
    # [worker]
    worker = app.worker(concurrency=8)  # celery -A tasks worker --concurrency 8
    # [/worker]
    worker.start()
    main()
    worker.stop()

"""Batch handlers: many jobs in one call, and an outcome for each."""

import contextlib

# [plain]
from dataclasses import dataclass

from jobwire import App, BatchContext, JobFailed, NonRetryable, Retry

app = App()


@dataclass
class Doc:
    id: int
    text: str


@app.batch_task("search.index", max_size=50, linger="100ms")
def index(docs: list[Doc]) -> None:
    bulk_insert([(doc.id, doc.text) for doc in docs])  # one round trip; what it raises is the failure of each job


# [/plain]


# [members]
@dataclass
class Push:
    to: str
    message: str


@app.batch_task("push.send", max_size=500, linger="200ms", retry=Retry(max_attempts=5))
async def push(ctx: BatchContext, pushes: list[Push]) -> list[str]:
    answers = await provider([(push.to, push.message) for push in pushes])
    for job, (code, _) in zip(ctx.jobs, answers, strict=True):
        if code == 404:
            job.fail(NonRetryable(f"{job.input.to} has no phone"))
        elif code == 429:
            job.snooze("30s", reason="the provider is busy")  # this one only; uses up no attempt
    return [receipt for _, receipt in answers]  # results of the others, in order


# [/members]

stored: list[tuple[int, str]] = []


def bulk_insert(rows: list[tuple[int, str]]) -> None:
    stored.extend(rows)


async def provider(messages: list[tuple[str, str]]) -> list[tuple[int, str]]:
    return [(404 if to == "Cy" else 200, f"receipt of {to}") for to, _ in messages]


def main() -> None:
    # [enqueue]
    jobs = [index.enqueue(Doc(n, "...")) for n in range(5)]  # one input each: producers know nothing of batches
    for job in jobs:
        job.result(timeout="20s")
    # [/enqueue]
    print("stored", len(stored))

    delivered = []
    names = ["Ada", "Bo", "Cy", "Dee"]
    for item in push.enqueue_many([Push(name, "hi") for name in names]):
        assert item.job is not None, item.error
        with contextlib.suppress(JobFailed):
            delivered.append(item.job.result(timeout="20s").removeprefix("receipt of "))
    print(f"{len(delivered)} of {len(names)} delivered: {delivered}")


if __name__ == "__main__":
    app.worker().run()

"""Each line marked `# error` is refused, by each checker, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass

from jobwire import App, Context, Flow, Job, Queue, Retry, Snooze, Unique
from jobwire.testing import fake, test_server

app = App()


@dataclass
class Mail:
    to: str


@app.task("send")
async def send(ctx: Context, mail: Mail) -> int:
    ctx.progress("half")  # error
    ctx.enqueue(3)  # error
    return 1


@app.task("resize")
def resize(path: str, width: int = 800) -> str:
    return path


# Wrong inputs.
send.enqueue(1)  # error
send.enqueue()  # error
send.enqueue(Mail(3))  # error
resize.enqueue("p", height=3)  # error
resize.enqueue("p", width="wide")  # error
resize.run(b"p")  # error
resize.s()  # error
app.enqueue(3)  # error

# Wrong results.
wrong: str = send.enqueue(Mail("x")).result()  # error
also: Job[str] = send.job("id")  # error

# Wrong option names.
resize.opts(prio=2)  # error
app.enqueue("t", {}, delai="5s")  # error
app.worker(concurency=5)  # error
Retry(attempts=3)  # error
Queue("q", slots=3)  # error

# Wrong option values.
resize.opts(retry="often")  # error
resize.opts(priority="high")  # error
resize.opts(tags=7)  # error
resize.opts(headers={"a": 1})  # error
resize.opts(at="tomorrow")  # error
Unique("k", scope="for_ever")  # error
Unique("k", on_conflict="ignore")  # error
Snooze("60s", throttle="all")  # error
app.task("c", queue=3)  # error
app.task("c", executor="gpu")  # error

# Wrong durations.
resize.opts(delay=[5])  # error
resize.opts(timeout=b"5s")  # error
app.worker(grace=object())  # error
send.job("id").result(timeout=(1, 2))  # error

# Tests.
with fake(app) as jobs:
    jobs.advance(None)  # error
    jobs.assert_enqueued(send, times="one")  # error
test_server(store="redis")  # error


# Batches and schedules.
@app.batch_task("mails", max_size=5)
def mails(mails: list[Mail]) -> list[int]:
    return [1]


mails.enqueue([Mail("a")])  # error
app.batch_task("t", max_size=5, executor="process")  # error
app.batch_task("t", linger="1s")  # error
app.schedule("s", mails.s(Mail("a")), overlap="never")  # error
app.schedule("s", mails.s(Mail("a")), crontab="@daily")  # error
app.schedules.put("s", mails)  # error

# Workflows.
Flow("f", on_node_failure="panic")  # error
Flow("f", retries=3)  # error
node = Flow().add(resize.s("p"))
mails.s(node.result)  # error
Flow().add(7)  # error
app.start(resize)  # error
app.queues.set("q", max_runing=1)  # error
app.jobs.cancel(7)  # error

"""A fuller task: typed input and output, retries, progress, a checkpoint and cancellation.

Run it with:  jobwire-worker mail_tasks:app --concurrency 50
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from jobwire import App, Context, NonRetryable, Retry, RetryAfter

app = App()


@dataclass
class Mail:
    to: list[str]
    body: str


@dataclass
class Receipt:
    sent: int


@app.task(
    "mail.send",
    queue="mail",
    timeout="5m",
    retry=Retry(max_attempts=8, initial_delay="2s", max_delay="10m"),
    no_retry_on=UnicodeError,
    tags=["mail"],
)
async def send(ctx: Context, mail: Mail) -> Receipt:
    """Sends one by one, and goes on where an earlier attempt stopped."""
    done: int = ctx.checkpoint or 0
    for address in mail.to[done:]:
        if "@" not in address:
            raise NonRetryable(f"{address} is no address")
        try:
            await deliver(address, mail.body)  # a cancelled job ends here with asyncio.CancelledError
        except ConnectionError as error:
            raise RetryAfter("30s", "the relay is away") from error
        done += 1
        ctx.save_checkpoint(done)
        ctx.progress(100 * done / len(mail.to), current=done, total=len(mail.to))
        ctx.log.info("sent to %s", address)
    return Receipt(sent=done)


async def deliver(address: str, body: str) -> None:
    """Stands for an SMTP client."""
    await asyncio.sleep(0.01)

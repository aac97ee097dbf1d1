"""Retries: by the policy, at a time of one's own, or not at all."""

from jobwire import App, Context, JobFailed, NonRetryable, Retry, RetryAfter

app = App()


# [handler]
class Busy(Exception):
    pass


@app.task("invoice.charge", retry=Retry(max_attempts=8, initial_delay="100ms", max_delay="10m"), no_retry_on=ValueError)
async def charge(ctx: Context, invoice: int) -> int:
    try:
        return bank(invoice, ctx.attempt)
    except Busy as error:
        raise RetryAfter("100ms", "the bank is busy") from error  # not before that
    except LookupError as error:
        raise NonRetryable(f"no invoice {invoice}") from error  # dead at once
    # anything else: again, by the policy


# [/handler]


def bank(invoice: int, attempt: int) -> int:
    """Stands for a payment service."""
    if invoice == 404:
        raise LookupError(invoice)
    if attempt == 1:
        raise ConnectionError("the line is down")
    if attempt == 2:
        raise Busy
    return attempt


def main() -> None:
    print("charged at attempt", charge.run(7))
    # [failure]
    job = charge.enqueue(404)
    try:
        job.result(timeout="20s")
    except JobFailed as error:
        print(error.failure and error.failure.message)
    # [/failure]


if __name__ == "__main__":
    main()

"""Cancelling: of a coroutine, and of a function in a thread."""

import asyncio
import threading

from jobwire import App, Context, JobCancelled

app = App()
begun = threading.Semaphore(0)


# [coroutine]
@app.task("video.encode")
async def encode(ctx: Context, path: str) -> None:
    begun.release()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("encode:", ctx.cancel_reason)  # requested, timeout, workflow, lease_lost, shutdown
        raise


# [/coroutine]


# [thread]
@app.task("video.upload")
def upload(ctx: Context, path: str) -> None:
    begun.release()
    while not ctx.wait_cancelled(0.5):  # a sleep that ends early
        ...  # send the next piece
    print("upload:", ctx.cancel_reason)
    ctx.raise_if_cancelled()


# [/thread]


def main() -> None:
    for task in (encode, upload):
        job = task.enqueue("holiday.mp4")
        begun.acquire()
        # [cancel]
        job.cancel("the user left", grace="10s")
        try:
            job.result(timeout="20s")
        except JobCancelled as error:
            print(error)
        # [/cancel]


if __name__ == "__main__":
    main()

"""Many jobs: in one call, side by side, and from a source that never ends."""

import asyncio
from collections.abc import Iterator

from jobwire import App, TaskCall

app = App()


@app.task("image.resize")
async def resize(path: str, width: int = 800) -> str:
    return f"{path}@{width}"


def pages() -> Iterator[TaskCall[str]]:
    """Stands for a source that never ends."""
    for page in range(250):
        yield resize.s(f"page-{page}.png")


# [concurrent]
async def side_by_side() -> None:
    """Concurrent calls leave together: a hundred of these cost a few round trips."""
    jobs = await asyncio.gather(*(resize.aenqueue(f"{n}.png") for n in range(100)))
    print(len(await asyncio.gather(*(job.aresult(timeout=60) for job in jobs))), "resized")


# [/concurrent]


def main() -> None:
    # [many]
    results = resize.enqueue_many(["a.png", ("b.png", 400), {"path": "c.png"}])
    print([result.status for result in results])
    # [/many]
    asyncio.run(side_by_side())
    # [stream]
    accepted = 0
    for result in app.enqueue_stream(pages()):
        accepted += result.error is None
    print(accepted, "accepted")
    # [/stream]


if __name__ == "__main__":
    main()

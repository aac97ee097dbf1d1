"""What Celery calls canvas: chains, groups and chords; and a graph of one's own. Needs a server (`jobwire dev`)."""

from __future__ import annotations

import time

# [tasks]
from jobwire import App, Flow, WorkflowFailed, chain, chord, group, previous

app = App()


@app.task("canvas.add")
def add(x: int, y: int = 10) -> int:
    return x + y


@app.task("canvas.mul")
def mul(x: int, y: int = 2) -> int:
    return x * y


@app.task("canvas.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


# [/tasks]


@app.task("canvas.broken", retry=1)
def broken(x: int) -> int:
    raise ValueError(f"no way to work with {x}")


@app.task("canvas.note")
def note(text: str) -> str:
    return text


def main() -> None:
    # [chain]
    sixteen = chain(add.s(2, 2), mul.s(previous, 4)).enqueue()  # chain(add.s(2, 2), mul.s(4))()
    print(sixteen.result(timeout=20))  # .get()
    print((add.s(2, 2) | mul | add).enqueue().result(timeout=20))  # add.s(2, 2) | mul.s() | add.s()
    # [/chain]

    # [group]
    squares = group(mul.s(n, n) for n in range(5)).enqueue()  # group(mul.s(n, n) for n in range(5))()
    print(squares.result(timeout=20))
    # [/group]

    # [chord]
    print(chord((add.s(n, n) for n in range(10)), total).enqueue().result(timeout=20))  # chord(…)(total.s())
    print(chain(add.s(1, 1), group(mul, mul.s(previous, 10)), total).enqueue().result(timeout=20))
    # [/chord]

    # [map]
    print(add.map(range(3)).enqueue().result(timeout=20))  # add.map(range(3)): here a job for each
    print(mul.starmap([(1, 2), (3, 4)]).enqueue().result(timeout=20))  # mul.starmap([(1, 2), (3, 4)])
    print(total.chunks(range(100), 10).enqueue().result(timeout=20)[:3])  # of a task that takes a list
    # [/map]

    # [errors]
    workflow = chord([add.s(1, 1), broken.s(3)], total).enqueue(on_failure=note.s("tell somebody"))  # link_error
    try:
        workflow.result(timeout=20)
    except WorkflowFailed as error:  # ChordError, but of each that failed
        print({node: failure.message for node, failure in error.failures.items()})
    # [/errors]

    # [flow]
    with Flow("report") as flow:
        low = flow.add(add.s(1, 2))
        high = flow.add(add.s(100, 200))
        both = flow.add(total.s([low.result, high.result]), name="both")  # of two nodes, as a list
        flow.add(mul.s(both.result, y=low.result), name="product")  # each where it belongs
        flow.add(note.s("both failed"), after=[both.failed])  # runs in no other case
    # created, all or nothing, where the block ends
    print(flow.workflow.wait(timeout=20).state.value, flow.workflow.job("product").result())
    for node in flow.workflow.nodes():
        print(node.name, node.state.value)
    # [/flow]


if __name__ == "__main__":
    worker = app.worker()
    worker.start()
    begun = time.monotonic()
    main()
    print(f"in {time.monotonic() - begun:.1f} s")
    worker.stop()

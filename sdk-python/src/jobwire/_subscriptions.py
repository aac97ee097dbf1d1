"""The options of a worker that say what it serves, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ._errors import InvalidArgument
from ._leases import BatchRule
from ._types import Queue, whole_number
from .v1 import worker_service_pb2


def check_number(option: str, value: Any, least: int) -> None:
    """InvalidArgument unless it is a whole number, at least `least`."""
    if not whole_number(value) or not least <= value < 1 << 31:
        raise InvalidArgument(f"{option}: expected a whole number, at least {least}, got {value!r}", field=option)


def subscriptions(
    tasks: Mapping[str, Any], queues: Iterable[str | Queue] | None
) -> list[worker_service_pb2.Subscription]:
    """What a worker of these tasks serves: `queues`, or those that its tasks go to."""
    if queues is None:
        names = {task.queue for task in tasks.values()}
        if names == set(tasks):
            return []  # the queues named like the types
        queues = sorted(names)
    if isinstance(queues, str):
        raise InvalidArgument(f'queues: write a list, ["{queues}"], not a string', field="queues")
    if not isinstance(queues, Iterable):
        raise InvalidArgument(f"queues: expected a list of names or Queue(...), got {queues!r}", field="queues")
    described = [Queue(given) if isinstance(given, str) else given for given in queues]
    for given in described:
        if not isinstance(given, Queue):
            raise InvalidArgument(f"queues: expected a list of names or Queue(...), {given!r} in it", field="queues")
        if not isinstance(given.name, str):
            raise InvalidArgument(f"queues.name: expected a string, got {given.name!r}", field="queues.name")
        check_number("queues.weight", given.weight, 0)
        check_number("queues.max_slots", given.max_slots, 0)
    return [
        worker_service_pb2.Subscription(
            queue=given.name, weight=given.weight, strict=given.strict, max_slots=given.max_slots
        )
        for given in described
    ]


def batches(
    tasks: Mapping[str, Any], queues: Iterable[str | Queue] | None, concurrency: int, prefetch: int | None
) -> dict[str, BatchRule]:
    """The batch tasks of a worker. InvalidArgument for one whose batches could never be full."""
    found = {name: task.batch for name, task in tasks.items() if task.batch is not None}
    served = {given.name: given for given in queues or () if isinstance(given, Queue)}
    for name, rule in found.items():
        if prefetch is not None and concurrency + prefetch < rule.max_size:
            raise InvalidArgument(
                f"prefetch: {name} runs up to {rule.max_size} jobs in one call, and this worker holds "
                f"{concurrency + prefetch} (concurrency + prefetch): leave prefetch out, or set it to "
                f"{rule.max_size - concurrency} or more",
                field="prefetch",
            )
        queue = served.get(tasks[name].queue)
        if queue is not None and 0 < queue.max_slots < rule.max_size:
            raise InvalidArgument(
                f"queues.max_slots: {name} runs up to {rule.max_size} jobs in one call, and {queue.name} may hold "
                f"{queue.max_slots}",
                field="queues.max_slots",
            )
    return found

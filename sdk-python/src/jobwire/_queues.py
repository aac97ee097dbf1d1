"""`client.queues`: how queues are, what they are held to, and pausing and emptying them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ._convert import duration, enum_value, short_name, time_of
from ._errors import InvalidArgument
from ._options import put_retry
from ._records import BulkResult, Percentiles, QueueOptions, QueueStats, QueueStatus, RateLimit
from ._service import Service
from ._spec import retry_of, span_of
from ._types import Duration, whole_number
from .v1 import queue_service_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack

PAGE = 200


class Queues(Service):
    """Queues of the deployment. Reading needs scope `read`, the rest `admin`.

    A queue is there as soon as something was enqueued to it. Every method has a twin for asyncio: `aget`, `alist` …
    """

    def get(self, name: str) -> QueueStatus:
        """A queue with its configuration and numbers. NotFound when nobody has used or configured it."""
        return queue_of(self._call("GetQueue", pb.GetQueueRequest(name=name)).queue)

    async def aget(self, name: str) -> QueueStatus:
        """`get` for asyncio."""
        return queue_of((await self._acall("GetQueue", pb.GetQueueRequest(name=name))).queue)

    def list(self, filter: str = "") -> Iterator[QueueStatus]:
        """Queues page by page as they are iterated. filter: over name and paused."""
        return self._pages("ListQueues", pb.ListQueuesRequest(filter=filter, page_size=PAGE), _listed)

    def alist(self, filter: str = "") -> AsyncIterator[QueueStatus]:
        """`list` for asyncio."""
        return self._apages("ListQueues", pb.ListQueuesRequest(filter=filter, page_size=PAGE), _listed)

    def put(self, name: str, /, *, etag: str = "", **config: Unpack[QueueOptions]) -> QueueStatus:
        """Replaces the configuration: what is left out goes back to its default. `set` changes single things.

        etag: refuse (Aborted) unless the stored queue has this one.
        """
        return queue_of(self._call("PutQueue", _put(name, etag, config, whole=True)).queue)

    async def aput(self, name: str, /, *, etag: str = "", **config: Unpack[QueueOptions]) -> QueueStatus:
        """`put` for asyncio."""
        return queue_of((await self._acall("PutQueue", _put(name, etag, config, whole=True))).queue)

    def set(self, name: str, /, *, etag: str = "", **config: Unpack[QueueOptions]) -> QueueStatus:
        """Changes what is given, at once and for running workers; None goes back to the default."""
        return queue_of(self._call("PutQueue", _put(name, etag, config, whole=False)).queue)

    async def aset(self, name: str, /, *, etag: str = "", **config: Unpack[QueueOptions]) -> QueueStatus:
        """`set` for asyncio."""
        return queue_of((await self._acall("PutQueue", _put(name, etag, config, whole=False))).queue)

    def pause(self, *names: str, reason: str = "", duration: Duration | None = None) -> tuple[str, ...]:
        """Hands out no more jobs; running ones go on, new ones are accepted. Returns the names; `"*"` = all of them.

        duration: resume by itself after this long. Again: replaces reason and duration.
        """
        return tuple(self._call("PauseQueues", _pause(names, reason, duration)).names)

    async def apause(self, *names: str, reason: str = "", duration: Duration | None = None) -> tuple[str, ...]:
        """`pause` for asyncio."""
        return tuple((await self._acall("PauseQueues", _pause(names, reason, duration))).names)

    def resume(self, *names: str) -> tuple[str, ...]:
        """Hands out jobs again. Returns the names; `"*"` = all of them."""
        return tuple(self._call("ResumeQueues", pb.ResumeQueuesRequest(names=_named(names))).names)

    async def aresume(self, *names: str) -> tuple[str, ...]:
        """`resume` for asyncio."""
        return tuple((await self._acall("ResumeQueues", pb.ResumeQueuesRequest(names=_named(names)))).names)

    def purge(self, name: str, *, force: bool = False, limit: int | None = None) -> BulkResult:
        """Drops every job that neither runs nor has ended; only counts them without `force`."""
        return self._bulk("PurgeQueue", [pb.PurgeQueueRequest(name=name, force=force)], limit=limit, repeat=False)

    async def apurge(self, name: str, *, force: bool = False, limit: int | None = None) -> BulkResult:
        """`purge` for asyncio."""
        requests = [pb.PurgeQueueRequest(name=name, force=force)]
        return await self._abulk("PurgeQueue", requests, limit=limit, repeat=False)


# --- requests -----------------------------------------------------------------------------------------------------


def _named(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidArgument('names: name the queues; "*" means all of them', field="names")
    return names


def _pause(names: tuple[str, ...], reason: str, span: Duration | None) -> pb.PauseQueuesRequest:
    request = pb.PauseQueuesRequest(names=_named(names), reason=reason)
    if span is not None:
        request.duration.CopyFrom(duration(span, "duration"))
    return request


def _put(name: str, etag: str, config: Mapping[str, Any], *, whole: bool) -> pb.PutQueueRequest:
    for option in config:
        if option not in _SETTERS:
            raise TypeError(f"unknown option {option!r}; known are {', '.join(sorted(_SETTERS))}")
    request = pb.PutQueueRequest(name=name, etag=etag)
    request.config.SetInParent()
    for option, value in config.items():
        if value is not None:
            _SETTERS[option](request.config, value)
    if not whole:
        if not config:
            raise InvalidArgument("config: name what is to change", field="config")
        request.update_mask.paths.extend(config)
    return request


def _count(field: str) -> Callable[[pb.QueueConfig, Any], None]:
    def put(config: pb.QueueConfig, value: Any) -> None:
        if not whole_number(value):
            raise InvalidArgument(f"{field}: expected a whole number, got {value!r}", field=field)
        try:
            setattr(config, field, value)
        except ValueError as error:
            raise InvalidArgument(f"{field}: {error}", field=field, cause=error) from error

    return put


def _span(field: str) -> Callable[[pb.QueueConfig, Any], None]:
    return lambda config, value: getattr(config, field).CopyFrom(duration(value, field))


def _rate(field: str) -> Callable[[pb.QueueConfig, Any], None]:
    def put(config: pb.QueueConfig, value: Any) -> None:
        if not isinstance(value, RateLimit) or not whole_number(value.max) or not whole_number(value.burst):
            raise InvalidArgument(f'{field}: expected RateLimit(max, per="1s"), got {value!r}', field=field)
        limit = pb.RateLimit(max=value.max, per=duration(value.per, f"{field}.per"), burst=value.burst)
        getattr(config, field).CopyFrom(limit)

    return put


def _put_weights(config: pb.QueueConfig, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(whole_number(weight) for weight in value.values()):
        raise InvalidArgument("key_weights: expected a dict of whole numbers", field="key_weights")
    config.key_weights.update(value)


def _put_note(config: pb.QueueConfig, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidArgument(f"note: expected a string, got {value!r}", field="note")
    config.note = value


_COUNTS = ("max_running", "max_running_per_key", "max_depth", "max_finished", "max_dead", "shards")
_SPANS = ("timeout", "ttl", "retention", "dead_retention")
_RATES = ("rate_limit", "rate_limit_per_key")
_SETTERS: dict[str, Callable[[pb.QueueConfig, Any], None]] = {
    **{name: _count(name) for name in _COUNTS},
    **{name: _span(name) for name in _SPANS},
    **{name: _rate(name) for name in _RATES},
    "key_weights": _put_weights,
    "retry": put_retry,
    "durability": lambda config, value: setattr(config, "durability", enum_value(pb.Durability, value, "durability")),
    "note": _put_note,
}


# --- answers ------------------------------------------------------------------------------------------------------


def _listed(response: pb.ListQueuesResponse) -> Iterable[QueueStatus]:
    return map(queue_of, response.queues)


def queue_of(message: pb.Queue) -> QueueStatus:
    """The public record of a queue."""
    return QueueStatus(
        name=message.name,
        config=_config(message.config),
        stats=stats_of(message.stats),
        paused=message.paused,
        pause_reason=message.pause_reason,
        pause_actor=message.pause_actor,
        pause_time=time_of(message, "pause_time"),
        resume_time=time_of(message, "resume_time"),
        etag=message.etag,
    )


def _config(message: pb.QueueConfig) -> QueueOptions:
    config: dict[str, Any] = {name: value for name in (*_COUNTS, "note") if (value := getattr(message, name))}
    if config.get("shards") == 1:  # said of every queue
        del config["shards"]
    config.update((name, span_of(getattr(message, name))) for name in _SPANS if message.HasField(name))
    for name in _RATES:
        if message.HasField(name):
            limit: pb.RateLimit = getattr(message, name)
            config[name] = RateLimit(limit.max, span_of(limit.per), limit.burst)
    if message.key_weights:
        config["key_weights"] = dict(message.key_weights)
    if message.HasField("retry"):
        config["retry"] = retry_of(message.retry)
    if message.durability:
        config["durability"] = short_name(pb.Durability, message.durability)
    return config  # type: ignore[return-value]


def stats_of(message: pb.QueueStats) -> QueueStats:
    """Numbers of a queue."""
    numbers = {
        name: getattr(message, name)
        for name in QueueStats.__dataclass_fields__
        if name not in ("latency", "wait", "run", "unhandled_types")
    }
    return QueueStats(
        **numbers,
        latency=span_of(message.latency),
        wait=_percentiles(message.wait),
        run=_percentiles(message.run),
        unhandled_types=dict(message.unhandled_types),
    )


def _percentiles(message: pb.DurationSummary) -> Percentiles:
    return Percentiles(*(span_of(getattr(message, name)) for name in ("p50", "p95", "p99", "max")))

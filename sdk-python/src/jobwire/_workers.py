"""`client.workers`: who is connected, and telling them to go quiet, to resume, or to finish."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from ._convert import duration, short_name, status_of, time_of
from ._records import BulkResult, WorkerStatus
from ._service import Service, selected
from ._types import Duration
from .v1 import admin_service_pb2 as pb
from .v1 import worker_service_pb2

PAGE = 200


class Workers(Service):
    """Workers of the deployment, on all servers. Reading needs scope `read`, the rest `admin`.

    They are chosen by id (of their session) or by `filter`: over session_id, worker_id (their name), state, queue,
    type, hostname, sdk, label.{key}; everything is `"*"`. Every method has a twin for asyncio: `aget`, `alist` …
    """

    def get(self, id: str) -> WorkerStatus:
        """A worker with the jobs that it holds. NotFound when it is not connected."""
        return _got(self._call("GetWorker", pb.GetWorkerRequest(session_id=id)))

    async def aget(self, id: str) -> WorkerStatus:
        """`get` for asyncio."""
        return _got(await self._acall("GetWorker", pb.GetWorkerRequest(session_id=id)))

    def list(self, filter: str = "") -> Iterator[WorkerStatus]:
        """Workers page by page as they are iterated."""
        return self._pages("ListWorkers", pb.ListWorkersRequest(filter=filter, page_size=PAGE), _listed)

    def alist(self, filter: str = "") -> AsyncIterator[WorkerStatus]:
        """`list` for asyncio."""
        return self._apages("ListWorkers", pb.ListWorkersRequest(filter=filter, page_size=PAGE), _listed)

    def quiet(self, *ids: str, filter: str = "", reason: str = "") -> BulkResult:
        """Lets them finish what they have and take nothing new; they stay connected."""
        return self._signal(worker_service_pb2.DIRECTIVE_KIND_QUIET, ids, filter, reason)

    async def aquiet(self, *ids: str, filter: str = "", reason: str = "") -> BulkResult:
        """`quiet` for asyncio."""
        return await self._asignal(worker_service_pb2.DIRECTIVE_KIND_QUIET, ids, filter, reason)

    def resume(self, *ids: str, filter: str = "", reason: str = "") -> BulkResult:
        """Lets them take jobs again."""
        return self._signal(worker_service_pb2.DIRECTIVE_KIND_RUN, ids, filter, reason)

    async def aresume(self, *ids: str, filter: str = "", reason: str = "") -> BulkResult:
        """`resume` for asyncio."""
        return await self._asignal(worker_service_pb2.DIRECTIVE_KIND_RUN, ids, filter, reason)

    def terminate(self, *ids: str, filter: str = "", grace: Duration | None = None, reason: str = "") -> BulkResult:
        """Lets them drain and exit. grace: give back what still runs after this long; default: the worker's own."""
        return self._signal(worker_service_pb2.DIRECTIVE_KIND_TERMINATE, ids, filter, reason, grace)

    async def aterminate(
        self, *ids: str, filter: str = "", grace: Duration | None = None, reason: str = ""
    ) -> BulkResult:
        """`terminate` for asyncio."""
        return await self._asignal(worker_service_pb2.DIRECTIVE_KIND_TERMINATE, ids, filter, reason, grace)

    def _signal(self, kind: Any, ids: Any, filter: str, reason: str, grace: Duration | None = None) -> BulkResult:
        return self._bulk("SignalWorkers", selected(_request(kind, reason, grace), ids, filter))

    async def _asignal(
        self, kind: Any, ids: Any, filter: str, reason: str, grace: Duration | None = None
    ) -> BulkResult:
        return await self._abulk("SignalWorkers", selected(_request(kind, reason, grace), ids, filter))


def _request(kind: Any, reason: str, grace: Duration | None) -> pb.SignalWorkersRequest:
    request = pb.SignalWorkersRequest(directive=kind, reason=reason)
    if grace is not None:
        request.grace.CopyFrom(duration(grace, "grace"))
    return request


def _got(response: pb.GetWorkerResponse) -> WorkerStatus:
    return worker_of(response.worker, response.jobs)


def _listed(response: pb.ListWorkersResponse) -> Iterator[WorkerStatus]:
    return map(worker_of, response.workers)


def worker_of(message: pb.Worker, jobs: Any = ()) -> WorkerStatus:
    """The public record of a worker."""
    info, told = message.info, message.directive
    same = ("slots", "concurrency", "in_flight", "running", "succeeded_count", "failed_count", "rss_bytes")
    return WorkerStatus(
        id=message.session_id,
        name=message.worker_id,
        state=short_name(worker_service_pb2.WorkerState, message.state or worker_service_pb2.WORKER_STATE_ACTIVE),
        directive=short_name(worker_service_pb2.DirectiveKind, told) if told else "",
        **{name: getattr(info, name) for name in ("hostname", "pid", "sdk", "sdk_version", "runtime", "app_version")},
        labels=dict(info.labels),
        types=tuple(message.types),
        queues=tuple(subscription.queue for subscription in message.subscriptions) or tuple(message.types),
        **{name: getattr(message, name) for name in same},
        cpu_percent=message.cpu_percent,
        server_id=message.server_id,
        connect_time=time_of(message, "connect_time"),
        last_seen_time=time_of(message, "last_seen_time"),
        jobs=tuple(map(status_of, jobs)),
    )

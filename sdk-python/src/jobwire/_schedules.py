"""`client.schedules`: recurring jobs, kept and fired by the server. And what `app.schedule` declares."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import _convert
from ._convert import duration, enum_value, payload, short_name, state_of, time_of, timestamp, value_of
from ._errors import InvalidArgument, JobwireError, Unavailable
from ._job import Job
from ._options import job_spec, merge_options
from ._records import (
    Backfill,
    BulkResult,
    Overlap,
    ScheduleOptions,
    SchedulePreview,
    SchedulePut,
    ScheduleStatus,
)
from ._service import SAMPLES_MAX, Service, selected
from ._spec import options_of, span_of
from ._tasks import TaskCall
from ._types import JobOptions, whole_number
from .v1 import job_pb2
from .v1 import schedule_service_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack

PAGE = 200


class Schedules(Service):
    """Schedules of the deployment. Reading needs scope `read`, the rest `admin`.

    Every method has a twin for asyncio: `aput`, `aget`, `alist` …
    """

    def put(
        self,
        id: str,
        job: TaskCall[Any] | str,
        payload: Any = None,
        /,
        *,
        options: JobOptions | None = None,
        etag: str = "",
        validate_only: bool = False,
        **spec: Unpack[ScheduleOptions],
    ) -> SchedulePut:
        """Creates a schedule or replaces its specification; the same thing again changes nothing.

        A changed cadence counts from now and fires nothing from the past. A pause is left as it is.

        id: `[A-Za-z0-9_.:/-]`, at most 128 characters. job: `task.s(...)`, or a type's name and a payload with
        `options`; no id, delay or start. spec: see ScheduleOptions. etag: refuse (Aborted) unless the stored schedule
        has this one. validate_only: check, and answer what would be stored.
        """
        request = put_request(id, job, payload, options, spec, etag, validate_only)
        return _put_of(self._call("PutSchedule", request))

    async def aput(
        self,
        id: str,
        job: TaskCall[Any] | str,
        payload: Any = None,
        /,
        *,
        options: JobOptions | None = None,
        etag: str = "",
        validate_only: bool = False,
        **spec: Unpack[ScheduleOptions],
    ) -> SchedulePut:
        """`put` for asyncio."""
        request = put_request(id, job, payload, options, spec, etag, validate_only)
        return _put_of(await self._acall("PutSchedule", request))

    def get(self, id: str) -> ScheduleStatus:
        """A schedule by its id, with the state of its last job. NotFound when there is none."""
        return schedule_of(self._call("GetSchedule", pb.GetScheduleRequest(id=id)).schedule)

    async def aget(self, id: str) -> ScheduleStatus:
        """`get` for asyncio."""
        return schedule_of((await self._acall("GetSchedule", pb.GetScheduleRequest(id=id))).schedule)

    def list(self, filter: str = "") -> Iterator[ScheduleStatus]:
        """Schedules by id, page by page as they are iterated. filter: over id, type, queue, paused, tag."""
        return self._pages("ListSchedules", pb.ListSchedulesRequest(filter=filter, page_size=PAGE), _listed)

    def alist(self, filter: str = "") -> AsyncIterator[ScheduleStatus]:
        """`list` for asyncio: `async for schedule in client.schedules.alist()`."""
        return self._apages("ListSchedules", pb.ListSchedulesRequest(filter=filter, page_size=PAGE), _listed)

    def pause(self, *ids: str, filter: str = "", reason: str = "") -> BulkResult:
        """Lets ticks pass, counted as skipped, until `resume`. By ids or by filter. Again: replaces the reason."""
        return self._bulk("PauseSchedules", selected(pb.PauseSchedulesRequest(reason=reason), ids, filter))

    async def apause(self, *ids: str, filter: str = "", reason: str = "") -> BulkResult:
        """`pause` for asyncio."""
        return await self._abulk("PauseSchedules", selected(pb.PauseSchedulesRequest(reason=reason), ids, filter))

    def resume(self, *ids: str, filter: str = "") -> BulkResult:
        """Goes on with the next tick; catches up nothing, which `backfill` does."""
        return self._bulk("ResumeSchedules", selected(pb.ResumeSchedulesRequest(), ids, filter))

    async def aresume(self, *ids: str, filter: str = "") -> BulkResult:
        """`resume` for asyncio."""
        return await self._abulk("ResumeSchedules", selected(pb.ResumeSchedulesRequest(), ids, filter))

    def trigger(self, id: str, payload: Any = None, /) -> Job[Any]:
        """Runs it once, now, whatever its pause and overlap policy say; moves no tick. payload: instead of its own."""
        return self._triggered(self._call("TriggerSchedule", _trigger(id, payload), repeat=False))

    async def atrigger(self, id: str, payload: Any = None, /) -> Job[Any]:
        """`trigger` for asyncio."""
        return self._triggered(await self._acall("TriggerSchedule", _trigger(id, payload), repeat=False))

    def delete(self, *ids: str, filter: str = "", force: bool = False) -> BulkResult:
        """Deletes schedules; their jobs stay. force: needed to delete by filter, which otherwise only counts."""
        return self._bulk("DeleteSchedules", selected(pb.DeleteSchedulesRequest(force=force), ids, filter))

    async def adelete(self, *ids: str, filter: str = "", force: bool = False) -> BulkResult:
        """`delete` for asyncio."""
        return await self._abulk("DeleteSchedules", selected(pb.DeleteSchedulesRequest(force=force), ids, filter))

    def preview(self, id: str = "", /, *, count: int = 10, **spec: Unpack[ScheduleOptions]) -> SchedulePreview:
        """The next times of a schedule that is there, by its id, or of a specification. count: 1 to 100."""
        return _preview_of(self._call("PreviewSchedule", _preview(id, count, spec)))

    async def apreview(self, id: str = "", /, *, count: int = 10, **spec: Unpack[ScheduleOptions]) -> SchedulePreview:
        """`preview` for asyncio."""
        return _preview_of(await self._acall("PreviewSchedule", _preview(id, count, spec)))

    def backfill(
        self, id: str, start: datetime, end: datetime, *, overlap: Overlap | None = None, dry_run: bool = False
    ) -> Backfill:
        """Runs the ticks from `start` to `end`, both in the past and included, paused or not, that have no job.

        overlap: instead of the schedule's own policy; default "allow": all at once. dry_run: only counts. Goes on by
        itself, 1,000 ticks a call.
        """
        request, total = _backfill(id, start, end, overlap, dry_run), Backfill()
        while True:
            response = self._call("BackfillSchedule", request)
            total = _added(total, response)
            if not response.continue_token:
                return total
            request.continue_token = response.continue_token

    async def abackfill(
        self, id: str, start: datetime, end: datetime, *, overlap: Overlap | None = None, dry_run: bool = False
    ) -> Backfill:
        """`backfill` for asyncio."""
        request, total = _backfill(id, start, end, overlap, dry_run), Backfill()
        while True:
            response = await self._acall("BackfillSchedule", request)
            total = _added(total, response)
            if not response.continue_token:
                return total
            request.continue_token = response.continue_token

    def _triggered(self, response: pb.TriggerScheduleResponse) -> Job[Any]:
        return self._client.job(response.job_id)


# --- requests -----------------------------------------------------------------------------------------------------


def put_request(
    id: str,
    job: TaskCall[Any] | str,
    body: Any,
    options: Mapping[str, Any] | None,
    spec: Mapping[str, Any],
    etag: str = "",
    validate_only: bool = False,
) -> pb.PutScheduleRequest:
    """A PutSchedule of what was given, checked as far as this side knows."""
    request = pb.PutScheduleRequest(id=_text(id, "id"), spec=_spec(spec), etag=etag, validate_only=validate_only)
    request.spec.job.CopyFrom(_job(job, body, options))
    return request


def _job(job: TaskCall[Any] | str, body: Any, options: Mapping[str, Any] | None) -> job_pb2.JobSpec:
    if isinstance(job, TaskCall):
        if body is not None or options:
            raise TypeError("options of a task call go before the call: task.opts(...).s(...)")
        task, arguments = job.task, (job.args, job.kwargs)
        spec = job_spec("", task.name, payload(task.signature.encode(*arguments)), task.options, arguments)
    elif isinstance(job, str):
        merged = merge_options({}, options or {})
        spec = job_spec("", job, payload({} if body is None else body), merged, ((body,), {}))
    else:
        raise TypeError(f"expected a type name or task.s(...), got {type(job).__name__}")
    for field, option in (("id", "id"), ("delay", "delay"), ("schedule_time", "at"), ("expire_time", "expire_at")):
        if spec.id if field == "id" else spec.HasField(field):
            raise InvalidArgument(f"{option}: is each tick's own; a schedule has none", field=f"spec.job.{field}")
    return spec


def _spec(given: Mapping[str, Any], *, cadence: bool = True) -> pb.ScheduleSpec:
    for name in given:
        if name not in _SETTERS:
            raise TypeError(f"unknown option {name!r}; known are {', '.join(sorted(_SETTERS))}")
    if cadence and (given.get("cron") is None) == (given.get("every") is None):
        raise InvalidArgument('a schedule needs cron="0 2 * * *" or every="15m", one of the two', field="spec.cron")
    spec = pb.ScheduleSpec()
    for name, value in given.items():
        if value is not None:
            _SETTERS[name](spec, value)
    return spec


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{field}: expected a string, got {value!r}", field=field)
    return value


def _texts(field: str) -> Callable[[pb.ScheduleSpec, Any], None]:
    return lambda spec, value: setattr(spec, field, _text(value, field))


def _span(field: str, option: str) -> Callable[[pb.ScheduleSpec, Any], None]:
    return lambda spec, value: getattr(spec, field).CopyFrom(duration(value, option))


def _moment(field: str, option: str) -> Callable[[pb.ScheduleSpec, Any], None]:
    return lambda spec, value: getattr(spec, field).CopyFrom(timestamp(value, option))


def _choice(field: str, enum: Any) -> Callable[[pb.ScheduleSpec, Any], None]:
    return lambda spec, value: setattr(spec, field, enum_value(enum, value, field))


_SETTERS: dict[str, Callable[[pb.ScheduleSpec, Any], None]] = {
    **{name: _texts(name) for name in ("cron", "time_zone", "note")},
    "every": _span("interval", "every"),
    "jitter": _span("jitter", "jitter"),
    "catch_up_window": _span("catch_up_window", "catch_up_window"),
    "start": _moment("start_time", "start"),
    "end": _moment("end_time", "end"),
    "overlap": _choice("overlap", pb.OverlapPolicy),
    "catch_up": _choice("catch_up", pb.CatchUpPolicy),
    "gap": _choice("gap", pb.GapPolicy),
    "fold": _choice("fold", pb.FoldPolicy),
}


def _trigger(id: str, body: Any) -> pb.TriggerScheduleRequest:
    return pb.TriggerScheduleRequest(id=id, payload=None if body is None else payload(body))


def _preview(id: str, count: int, spec: Mapping[str, Any]) -> pb.PreviewScheduleRequest:
    if bool(id) == bool(spec):
        raise InvalidArgument("preview a schedule by its id, or a specification", field="spec")
    if not whole_number(count) or not 1 <= count <= 100:
        raise InvalidArgument(f"count: expected a whole number from 1 to 100, got {count!r}", field="count")
    return pb.PreviewScheduleRequest(id=id, spec=None if id else _spec(spec), count=count)


def _backfill(
    id: str, start: datetime, end: datetime, overlap: Overlap | None, dry_run: bool
) -> pb.BackfillScheduleRequest:
    request = pb.BackfillScheduleRequest(id=id, to=timestamp(end, "end"), dry_run=dry_run)
    getattr(request, "from").CopyFrom(timestamp(start, "start"))
    if overlap is not None:
        request.overlap = enum_value(pb.OverlapPolicy, overlap, "overlap")
    return request


def refused(id: str, error: JobwireError) -> JobwireError:
    """What a worker says that could not put a schedule; a server that does not answer is none that refuses."""
    if error.code == "DEADLINE_EXCEEDED":
        return Unavailable(f"schedule {id}: {error.message}", retryable=True, cause=error)
    twin = error._twin()
    twin.message = f"schedule {id}: {error.message}"
    return twin


# --- answers ------------------------------------------------------------------------------------------------------


def schedule_of(message: pb.Schedule) -> ScheduleStatus:
    """The public record of a schedule."""
    spec = message.spec
    return ScheduleStatus(
        id=message.id,
        type=spec.job.type,
        queue=spec.job.queue or spec.job.type,
        input=value_of(spec.job.payload),
        options=options_of(spec.job),
        cron=spec.cron,
        every=span_of(spec.interval) if spec.HasField("interval") else None,
        time_zone=spec.time_zone or "UTC",
        overlap=short_name(pb.OverlapPolicy, spec.overlap or pb.OVERLAP_POLICY_ALLOW),  # type: ignore[arg-type]
        catch_up=short_name(pb.CatchUpPolicy, spec.catch_up or pb.CATCH_UP_POLICY_LAST),  # type: ignore[arg-type]
        gap=short_name(pb.GapPolicy, spec.gap or pb.GAP_POLICY_AFTER),  # type: ignore[arg-type]
        fold=short_name(pb.FoldPolicy, spec.fold or pb.FOLD_POLICY_FIRST),  # type: ignore[arg-type]
        start=time_of(spec, "start_time"),
        end=time_of(spec, "end_time"),
        jitter=span_of(spec.jitter),
        catch_up_window=span_of(spec.catch_up_window) if spec.HasField("catch_up_window") else None,
        note=spec.note,
        paused=message.paused,
        pause_reason=message.pause_reason,
        next_fire_times=tuple(map(_convert.datetime_of, message.next_fire_times)),
        waiting_fire_time=time_of(message, "waiting_fire_time"),
        last_fire_time=time_of(message, "last_fire_time"),
        last_job_id=message.last_job_id,
        last_job_state=state_of(message.last_job_state) if message.last_job_state else None,
        fired_count=message.fired_count,
        skipped_count=message.skipped_count,
        create_time=time_of(message, "create_time"),
        update_time=time_of(message, "update_time"),
        etag=message.etag,
    )


def _listed(response: pb.ListSchedulesResponse) -> Iterator[ScheduleStatus]:
    return map(schedule_of, response.schedules)


def _put_of(response: pb.PutScheduleResponse) -> SchedulePut:
    return SchedulePut(schedule_of(response.schedule), response.created)


def _preview_of(response: pb.PreviewScheduleResponse) -> SchedulePreview:
    return SchedulePreview(tuple(map(_convert.datetime_of, response.fire_times)), response.description)


def _added(total: Backfill, response: pb.BackfillScheduleResponse) -> Backfill:
    return Backfill(
        total.ticks + response.tick_count,
        total.fired + response.fired_count,
        total.existing + response.existing_count,
        total.skipped + response.skipped_count,
        (*total.sample_ids, *response.sample_ids)[:SAMPLES_MAX],
    )

"""How an attempt ended, as an Outcome: from the handler's result, or from what it raised."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

from . import _convert
from ._context import Context
from ._errors import Discard, InvalidArgument, JobControl, NonRetryable, Release, RetryAfter, Snooze
from ._leases import LEASE_LOST, SHUTDOWN, TIMEOUT, Lease, Outcome, cancelled, failed, released, unprocessable
from ._tasks import Task
from .v1 import common_pb2, job_pb2
from .v1 import worker_service_pb2 as pb

MESSAGE_BYTES, STACK_BYTES, CAUSES_MAX = 4 << 10, 32 << 10, 5
log = logging.getLogger("jobwire.worker")
_THROTTLES = {None: 0, "key": job_pb2.THROTTLE_SCOPE_KEY, "queue": job_pb2.THROTTLE_SCOPE_QUEUE}


class Unprocessable(JobControl):
    """The payload cannot be read as what the handler takes."""


def returned(context: Context, value: Any, limit: int) -> Outcome:
    """The handler returned `value`; a result that has no JSON form or is too large makes the job unprocessable."""
    try:
        result = _convert.payload(value, "result", limit or 1 << 20)
    except InvalidArgument as error:
        return unprocessable(error.message)
    return Outcome(succeeded=pb.Succeeded(result=result), enqueue=context._to_enqueue(True))


def raised(lease: Lease, context: Context | None, error: BaseException, task: Task[Any, Any]) -> Outcome | None:
    """The handler raised `error`. None: nothing is reported, because the lease is lost."""
    outcome = _of(lease, error, task)
    if outcome is not None and context is not None:
        outcome.enqueue.extend(context._to_enqueue(False))
    return outcome


def _of(lease: Lease, error: BaseException, task: Task[Any, Any]) -> Outcome | None:
    try:
        if isinstance(error, JobControl):
            return _controlled(error, error)
        if lease.cancel is not None and (isinstance(error, asyncio.CancelledError) or lease.cancel == TIMEOUT):
            return _obeyed(lease, error)
        if isinstance(error, task.no_retry_on):
            return Outcome(failed=pb.Failed(failure=failure(error), action=pb.FAILURE_ACTION_STOP))
        control = _classified(error, task)
        if control is not None:
            return _controlled(control, error)
    except InvalidArgument as wrong:
        error = wrong  # the delay of a RetryAfter or Snooze makes no sense
    return Outcome(failed=pb.Failed(failure=failure(error)))


def _classified(error: BaseException, task: Task[Any, Any]) -> JobControl | None:
    for classify in task.classifiers:
        try:
            control = classify(error)
        except Exception:
            log.exception("the classifier %r failed on %r", classify, error)
            continue
        if control is not None:
            return control
    return None


def _obeyed(lease: Lease, error: BaseException) -> Outcome | None:
    if lease.cancel == LEASE_LOST:
        return None
    if lease.cancel == SHUTDOWN:
        return released("worker is shutting down")
    if lease.cancel == TIMEOUT:
        limit = _convert.seconds(lease.job.timeout)
        after = f" after {limit:g} s" if limit else ""
        message = lease.cancel_message or f"the attempt timed out{after}"  # the server says which limit, if it ordered
        outcome = failed(common_pb2.FAILURE_KIND_TIMEOUT, "jobwire.Timeout", message)
        if not isinstance(error, asyncio.CancelledError):
            outcome.failed.failure.cause.CopyFrom(failure(error))
        return outcome
    return cancelled(lease.cancel_message or lease.cancel or "")


def _controlled(control: JobControl, error: BaseException) -> Outcome:
    """What `control` asks for; `error` is what people see, the same unless a classifier spoke."""
    if isinstance(control, RetryAfter):
        outcome = Outcome(failed=pb.Failed(failure=failure(error), action=pb.FAILURE_ACTION_RETRY))
        outcome.failed.retry_delay.CopyFrom(_convert.duration(control.delay, "delay"))
        return outcome
    if isinstance(control, Snooze):
        snoozed = pb.Snoozed(reason=control.reason, throttle=_THROTTLES[control.throttle])  # type: ignore[arg-type]
        snoozed.delay.CopyFrom(_convert.duration(control.delay, "delay"))
        return Outcome(snoozed=snoozed)
    if isinstance(control, Unprocessable):
        return unprocessable(str(control))
    if isinstance(control, Release):
        return released(control.reason)
    actions = {NonRetryable: pb.FAILURE_ACTION_STOP, Discard: pb.FAILURE_ACTION_DISCARD}
    action = next(
        (action for kind, action in actions.items() if isinstance(control, kind)), pb.FAILURE_ACTION_UNSPECIFIED
    )
    return Outcome(failed=pb.Failed(failure=failure(error), action=action))


def failure(error: BaseException, depth: int = CAUSES_MAX) -> common_pb2.Failure:
    """An exception as Failure, with its stack trace and at most five causes."""
    stack = "".join(traceback.format_exception(type(error), error, error.__traceback__, chain=False))
    message = common_pb2.Failure(
        kind=common_pb2.FAILURE_KIND_APPLICATION,
        type=type_name(type(error)),
        message=_cut(_text(error), MESSAGE_BYTES),
        stack_trace=_cut_middle(stack, STACK_BYTES),
    )
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth > 0 and cause is not error:
        message.cause.CopyFrom(failure(cause, depth - 1))
        message.cause.ClearField("stack_trace")
    return message


def type_name(cls: type[BaseException]) -> str:
    """`module.Class`, without `builtins.`."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    return name.removeprefix("builtins.")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<{type(broken).__name__} while making the message>"


def _cut(text: str, limit: int) -> str:
    raw = text.encode(errors="replace")
    return raw[:limit].decode(errors="ignore")


def _cut_middle(text: str, limit: int) -> str:
    raw = text.encode(errors="replace")
    if len(raw) <= limit:
        return raw.decode()
    half = limit // 2 - 16
    return raw[:half].decode(errors="ignore") + "\n[...]\n" + raw[-half:].decode(errors="ignore")

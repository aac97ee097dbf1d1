"""Jobwire in Sentry: `sentry_sdk.init(integrations=[JobwireIntegration()])` reports what handlers raise.

Each attempt has a scope of its own, with the job's type, queue, id, attempt and tags, and without its payload. Sentry's
own `include_local_variables`, on by default, shows the handlers' arguments all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import sentry_sdk
from sentry_sdk.integrations import Integration
from sentry_sdk.utils import capture_internal_exceptions, event_from_exception

from .. import _hooks
from .._context import Context
from .._errors import JobControl


class JobwireIntegration(Integration):
    """Reports exceptions of handlers. RetryAfter, Snooze and the like are no errors, nor is a cancellation.

    only_last: report only when no attempt is left; default False: every failed attempt.
    """

    identifier = "jobwire"

    def __init__(self, *, only_last: bool = False) -> None:
        self.only_last = only_last

    @staticmethod
    def setup_once() -> None:
        """Called by Sentry."""
        _hooks.everywhere.append(_around)


@contextmanager
def _around(ctx: Context) -> Iterator[None]:
    client = sentry_sdk.get_client()
    integration = client.get_integration(JobwireIntegration)
    if integration is None:
        yield
        return
    with sentry_sdk.isolation_scope() as scope:
        with capture_internal_exceptions():
            scope.clear_breadcrumbs()
            scope.set_transaction_name(ctx.type, source="task")
            scope.set_tag("jobwire.type", ctx.type)
            scope.set_tag("jobwire.queue", ctx.queue)
            scope.set_context(
                "jobwire",
                {
                    "job_id": ctx.job_id,
                    "attempt": ctx.attempt,
                    "max_attempts": ctx.max_attempts,
                    "delivery": ctx.delivery,
                    "tags": list(ctx.tags),
                },
            )
        try:
            yield
        except (JobControl, asyncio.CancelledError):
            raise
        except Exception as error:
            if not integration.only_last or ctx.attempt == ctx.max_attempts:
                mechanism = {"type": "jobwire", "handled": False}
                event, hint = event_from_exception(error, client_options=client.options, mechanism=mechanism)
                sentry_sdk.capture_event(event, hint=hint)
            raise

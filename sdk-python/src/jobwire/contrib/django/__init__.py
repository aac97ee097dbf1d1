"""Jobwire in Django: add "jobwire.contrib.django" to INSTALLED_APPS.

    # settings.py
    JOBWIRE = {"URL": "jobwire://127.0.0.1:7420"}

    # orders/tasks.py, which is imported by itself, like the `tasks` module of every installed app
    @app.task("orders.confirm")
    def confirm(order: int) -> None: ...

    # in a view
    enqueue_on_commit(confirm.s(order.pk))

    python manage.py jobwire_worker --concurrency 20     # options as of jobwire-worker

Keys of JOBWIRE: URL, TOKEN, TOKEN_FILE, CA_FILE, CERT_FILE, KEY_FILE, TIMEOUT, PLAINTEXT_TOKEN, as App's options;
what is missing comes from the environment's JOBWIRE_*.
Database connections are closed before and after each job as they are around a request, by CONN_MAX_AGE.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.apps import apps as installed
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections, reset_queries, transaction

from ..._app import App
from ..._context import Context
from ..._tasks import TaskCall

_KEYS = ("URL", "TOKEN", "TOKEN_FILE", "CA_FILE", "CERT_FILE", "KEY_FILE", "TIMEOUT", "PLAINTEXT_TOKEN")


def _configured() -> App:
    given: dict[str, Any] = getattr(settings, "JOBWIRE", {})
    for key in given:
        if key not in _KEYS:
            raise ImproperlyConfigured(f"JOBWIRE: unknown key {key!r}; known are {', '.join(_KEYS)}")
    options = {key.lower(): value for key, value in given.items() if key != "URL"}
    return App(given.get("URL"), **options)


app = _configured()
"""The site's App, by its settings."""


def enqueue_on_commit(call: TaskCall[Any], *, using: str | None = None) -> None:
    """Enqueues `task.s(...)` when the transaction commits; at once outside of one, never when it rolls back.

    Arguments are checked now. A crash between the commit and the enqueue loses the job: what must not be lost needs an
    outbox. using: the database alias; default: the default one.
    """
    call._spec()
    transaction.on_commit(lambda: app.enqueue(call) and None, using=using)


@app.around
@contextmanager
def _connections(ctx: Context) -> Iterator[None]:
    _tidy(ctx)
    try:
        yield
    finally:
        _tidy(ctx)


def _tidy(ctx: Context) -> None:
    if app.tasks[ctx.type].executor != "loop":
        reset_queries()
        close_old_connections()
        return
    # A coroutine's queries run in asgiref's one thread, and so does this, between those of two jobs.
    from asgiref.sync import SyncToAsync

    SyncToAsync.single_thread_executor.submit(close_old_connections)


# A child of executor="process" imports the tasks' modules only: there is no manage.py in it.
if multiprocessing.parent_process() is not None and not installed.ready and not installed.loading:
    django.setup()

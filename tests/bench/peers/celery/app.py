"""Celery's side: the task, with retries on and its result kept."""

from __future__ import annotations

import os

from celery import Celery
from lines import arrived

url = os.environ["BENCH_URL"]
app = Celery("app", broker=url, backend=url)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)


@app.task(name="bench.noop", max_retries=3, autoretry_for=(Exception,), retry_backoff=True)
def noop(t, pad):
    arrived(t)
    return "ok"

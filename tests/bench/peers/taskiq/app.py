"""Taskiq's side: the task, with retries on and its result kept."""

from __future__ import annotations

import os

from lines import arrived
from taskiq import SimpleRetryMiddleware
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

url = os.environ["BENCH_URL"]
broker = (
    RedisStreamBroker(url=url)
    .with_result_backend(RedisAsyncResultBackend(redis_url=url))
    .with_middlewares(SimpleRetryMiddleware(default_retry_count=3))
)


@broker.task(task_name="bench.noop", retry_on_error=True)
async def noop(t, pad):
    arrived(t)
    return "ok"

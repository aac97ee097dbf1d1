"""Run by check-package.sh in an environment that holds the installed package and its two dependencies, nothing else."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import google.protobuf
import grpc

import jobwire
from jobwire import App, Context, JobFailed, NonRetryable
from jobwire.testing import fake, test_server

home = Path(jobwire.__file__).parent
assert home.is_relative_to(sys.prefix), home
assert (home / "py.typed").exists()
assert (home / "v1" / "job_pb2.pyi").exists()
assert (home / "contrib" / "django" / "management" / "commands" / "jobwire_worker.py").exists()
assert any(file.name == "LICENSE" for file in importlib.metadata.files("jobwire") or ())
names = {point.name for point in importlib.metadata.distribution("jobwire").entry_points}
assert names == {"jobwire-worker", "jobwire"}, names
for absent in ("pytest", "opentelemetry", "pydantic", "django"):
    assert importlib.util.find_spec(absent) is None, absent


@dataclass
class Mail:
    to: str
    number: int = 2**70


with test_server() as server:
    app = App(server.url)

    @app.task("echo")
    async def echo(ctx: Context, mail: Mail) -> Mail:
        ctx.progress(50)
        ctx.log.info("on its way")
        return mail

    @app.task("fail")
    def fail() -> None:
        raise NonRetryable("no")

    worker = app.worker(concurrency=4)
    worker.start()
    assert echo.run(Mail("ä")) == Mail("ä")
    assert asyncio.run(echo.arun(Mail("b"))) == Mail("b")
    jobs = echo.enqueue_many([Mail("c"), Mail("d")])
    assert [echo.job(job.job_id).result(20) for job in jobs] == [Mail("c"), Mail("d")]
    try:
        fail.run()
    except JobFailed as error:
        assert error.failure is not None
        assert error.failure.type == "jobwire._errors.NonRetryable"
    worker.stop()
    app.close()

with fake(app) as recorded:
    echo.opts(delay="1h").enqueue(Mail("e"))
    recorded.advance("1h")
    recorded.assert_enqueued(echo, Mail("e"), times=1)

subprocess.run([f"{sys.prefix}/bin/jobwire-worker", "--version"], check=True, stdout=subprocess.DEVNULL)
print(f"jobwire {jobwire.__version__} works with grpcio {grpc.__version__} and protobuf {google.protobuf.__version__}")

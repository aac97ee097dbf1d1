"""`jobwire-worker module:app`: runs the tasks of an App."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import _supervisor
from ._app import App
from ._errors import InvalidArgument, JobwireError
from ._health import health_address
from ._version import __version__
from ._vitals import resident_bytes

if TYPE_CHECKING:
    from ._worker import Worker

log = logging.getLogger("jobwire.worker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 drained, 1 refused by the server or not loadable, 2 wrong usage, 70 failed."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    index = os.environ.pop(_supervisor.INDEX, None)
    recycled = options.max_jobs is not None or options.max_rss is not None
    if index is None and (options.processes > 1 or options.reload or recycled):
        command = _supervisor.worker_command(given)
        watch = Path.cwd() if options.reload else None
        return _supervisor.Supervisor(command, options.processes, watch).run()
    _supervisor.drain_without_supervisor()
    return _work(options, int(index or 0))


def _work(options: argparse.Namespace, index: int) -> int:
    app = _load(options.app)
    health = options.health
    if health is not None and index:
        host, port = health_address(health)
        health = f"{host}:{port + index}"
    code = 0
    try:
        worker = app.worker(
            queues=options.queues.split(",") if options.queues else None,
            concurrency=options.concurrency,
            prefetch=options.prefetch,
            pool_size=options.pool_size,
            max_jobs=options.max_jobs,
            max_rss=options.max_rss,
            grace=options.grace,
            lease_ttl=options.lease_ttl,
            name=options.name,
            app_version=options.app_version,
            health=health,
            put_schedules=not options.no_put_schedules,
        )
        code = _run(worker, options.max_jobs, options.max_rss)
    except (ValueError, InvalidArgument) as error:
        raise SystemExit(f"jobwire-worker: {error}") from None
    except JobwireError as error:
        log.error("the server refused this worker: %s", error)
        code = _supervisor.REFUSED
    except Exception:
        log.exception("the worker failed")
        code = 70
    # A handler that hangs in a thread must not hold up the exit.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(worker: Worker, max_jobs: int | None, max_rss: int | None) -> int:
    """Works until told to stop, or until this process has done enough."""
    enough = False

    def recycle(jobs: int) -> bool:
        nonlocal enough
        enough = (max_jobs is not None and jobs >= max_jobs) or (
            max_rss is not None and resident_bytes() > max_rss << 20
        )
        return enough

    if max_jobs is not None or max_rss is not None:
        worker._recycle = recycle
    worker.run()
    return _supervisor.RECYCLED if enough else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jobwire-worker",
        description="Run the tasks of a Jobwire app.",
        epilog="SIGTERM or SIGINT drains; a second one gives running handlers up. Exit codes: 0 drained, 1 refused by "
        "the server or not loadable, 2 wrong usage, 70 failed.",
    )
    add = parser.add_argument
    add("app", help="module:attribute of the App, such as myapp.tasks:app")
    add("--concurrency", type=_number, default=10, help="handlers at once, in each process (default 10)")
    add("--processes", type=_number, default=1, help="worker processes, each with all of the above (default 1)")
    add("--queues", help="comma list (default: the queues of all tasks)")
    add("--reload", action="store_true", help="start anew when a .py file under this directory changes")
    add("--max-jobs", type=_number, help="replace a process, also one of the pool, after so many jobs")
    add("--max-rss", type=_number, help="replace a process, also one of the pool, above so many MiB of memory")
    add("--pool-size", type=_number, help="children for executor=process, in each process (default: CPU cores)")
    add("--prefetch", type=int, help="jobs to hold beyond --concurrency (default: adapts)")
    add("--health", help="port or host:port for /livez, /readyz, /metrics; process n has the n-th port from there")
    add("--no-put-schedules", action="store_true", help="leave the app's schedules to others (default: put them)")
    add("--grace", default="25s", help="time to finish after SIGTERM (default 25s)")
    add("--lease-ttl", help="10s to 5m (default: the server's, 30s)")
    add("--name", default="", help="name of the worker for people (default host:pid)")
    add("--app-version", default="", help="build of the application, for people")
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    add("--version", action="version", version=__version__)
    return parser


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _load(path: str) -> App:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise SystemExit(f"jobwire-worker: expected module:attribute, got {path!r}")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise SystemExit(f"jobwire-worker: there is no module {module_name!r}") from None
        raise
    except AttributeError:
        raise SystemExit(f"jobwire-worker: module {module_name!r} has no {attribute!r}") from None
    if not isinstance(found, App):
        raise SystemExit(f"jobwire-worker: {path} is a {type(found).__name__}, not a jobwire.App")
    return found


if __name__ == "__main__":
    raise SystemExit(main())

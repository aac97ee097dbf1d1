"""`jobwire-worker module:app`: runs the tasks of an App."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from ._app import App
from ._errors import JobwireError
from ._version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 drained, 1 refused by the server, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    app = _load(options.app)
    try:
        app.worker(
            queues=options.queues.split(",") if options.queues else None,
            concurrency=options.concurrency,
            prefetch=options.prefetch,
            grace=options.grace,
            lease_ttl=options.lease_ttl,
            name=options.name,
            app_version=options.app_version,
        ).run()
    except ValueError as error:
        raise SystemExit(f"jobwire-worker: {error}") from None
    except JobwireError as error:
        logging.getLogger("jobwire.worker").error("the server refused this worker: %s", error)
        return 1
    # A handler that hangs in a thread must not hold up the exit.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jobwire-worker", description="Run the tasks of a Jobwire app.")
    parser.add_argument("app", help="module:attribute of the App, such as myapp.tasks:app")
    parser.add_argument("--concurrency", type=int, default=10, help="handlers at once (default 10)")
    parser.add_argument("--prefetch", type=int, help="jobs to hold beyond those (default: adapts)")
    parser.add_argument("--queues", help="comma list (default: the queues of all tasks)")
    parser.add_argument("--grace", default="25s", help="time to finish after SIGTERM (default 25s)")
    parser.add_argument("--lease-ttl", help="10s to 5m (default: the server's, 30s)")
    parser.add_argument("--name", default="", help="name of the worker for people (default host:pid)")
    parser.add_argument("--app-version", default="", help="build of the application, for people")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--version", action="version", version=__version__)
    return parser


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

"""Helpers for the tests of an application that uses Jobwire.

    with inline(app): ...               every enqueue runs the handler at once; the handle has its result
    with fake(app) as jobs: ...         enqueues are recorded; `jobs.advance("10m")` runs what came due
    with test_server() as server: ...   the real server, on free ports, with nothing in it; `App(server.url)`

pytest finds the fixtures `jobwire_server` (the url of a real server) and `jobwire_fake` by itself.
"""

from ._fake import FakeJobs, fake, inline
from ._record import Enqueued
from ._server import TestServer, test_server

__all__ = ["Enqueued", "FakeJobs", "TestServer", "fake", "inline", "test_server"]

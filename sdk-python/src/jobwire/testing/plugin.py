"""The pytest plugin; pytest finds it through its entry point."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from .._client import Client
from ._fake import FakeJobs, fake
from ._server import TestServer


@pytest.fixture(scope="session")
def jobwire_server() -> Iterator[str]:
    """The url of a real server, in memory, one for the whole session: `App(jobwire_server)`.

    Tests share it; let each use queues or types of its own, or start its own with `jobwire.testing.test_server()`.
    """
    with TestServer() as server:
        yield server.url


@pytest.fixture
def jobwire_fake() -> Iterator[Callable[[Client], FakeJobs]]:
    """Puts the fake in an app's place until the test ends: `jobs = jobwire_fake(app)`. See `jobwire.testing.fake`."""
    with contextlib.ExitStack() as undo:
        yield lambda app: undo.enter_context(fake(app))

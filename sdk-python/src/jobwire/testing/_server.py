"""A real server for tests: the `jobwire` binary on free ports of 127.0.0.1, with an empty store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import weakref
from typing import IO, Literal

# Ends the server when this process does, however it does: the shell reads a pipe that nobody else writes to.
_GUARD = '"$@" & server=$!; exec >&- 2>&-; read _; kill -KILL $server; wait $server'


class TestServer:
    """The real server, ended with `stop`, with the `with` block, or with this process.

    store: "memory", or "embedded" for one on disk, in a directory that goes with the server.
    binary: the server's program; default: `JOBWIRE_BIN`, else `jobwire` on the PATH, else FileNotFoundError.
    url: for `App(url)`, `Client(url)` or `JOBWIRE_URL`. http_url: dashboard, metrics and health.
    RuntimeError, with what the server said, when it does not start.
    """

    __test__ = False  # not a test, whatever pytest makes of its name

    def __init__(self, *, store: Literal["memory", "embedded"] = "memory", binary: str | None = None) -> None:
        program = binary or os.environ.get("JOBWIRE_BIN") or shutil.which("jobwire")
        if not program or shutil.which(program) is None:
            missing = f"{program} is no program" if program else "there is no jobwire on the PATH"
            raise FileNotFoundError(f"{missing}: set JOBWIRE_BIN to the server's binary, or install it")
        if store not in ("memory", "embedded"):
            raise ValueError(f'store: expected "memory" or "embedded", got {store!r}')
        with contextlib.ExitStack() as undo:
            if store == "embedded":
                directory = undo.enter_context(tempfile.TemporaryDirectory(prefix="jobwire-test-"))
                store = f"embedded:{directory}"  # type: ignore[assignment]
            self._log: list[str] = []
            self._process = self._start(program, store)
            undo.callback(_end, self._process)
            self.url, self.http_url = self._addresses()
            self._stop = weakref.finalize(self, undo.pop_all().close)

    def _start(self, program: str, store: str) -> subprocess.Popen[str]:
        free = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
        process = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", program, "serve", "--store", store, *free],
            env={name: value for name, value in os.environ.items() if not name.startswith("JOBWIRE_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._drain = threading.Thread(target=_drain, args=(process.stderr, self._log), daemon=True)
        self._drain.start()
        return process

    def _addresses(self) -> tuple[str, str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            ready = json.loads(line)
            return f"jobwire://{ready['listening']}", f"http://{ready['http']}"
        except (ValueError, KeyError) as error:
            _end(self._process)
            self._drain.join()  # all that it said
            raise RuntimeError(f"the server did not start: {line}{self.log}") from error

    @property
    def log(self) -> str:
        """What the server logged so far."""
        return "".join(self._log)

    def stop(self) -> None:
        """Ends the server at once. Does nothing the second time."""
        self._stop()

    def __enter__(self) -> TestServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def test_server(*, store: Literal["memory", "embedded"] = "memory", binary: str | None = None) -> TestServer:
    """Starts a real server: `with test_server() as server: App(server.url)`. Options as for TestServer."""
    return TestServer(store=store, binary=binary)


test_server.__test__ = False  # type: ignore[attr-defined]


def _drain(stream: IO[str], lines: list[str]) -> None:
    with stream:
        lines.extend(stream)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()

"""A real server in a process of its own, and processes that talk to it.

JOBWIRE_BIN names the server's binary; `make test` sets it. Without it these tests fail: skipping would hide them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from typing import IO

import pytest
from scripted import WAIT


class Process:
    """A child whose first line of output says that it is ready, and whose output is drained from then on."""

    def __init__(self, *command: str, **env: str) -> None:
        self.child = subprocess.Popen(
            command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.errors: list[str] = []
        assert self.child.stdout is not None
        assert self.child.stderr is not None
        threading.Thread(target=self._drain, args=(self.child.stderr, self.errors), daemon=True).start()
        self.first_line = self.child.stdout.readline()
        assert self.first_line, "it did not get ready:\n" + "".join(self.errors)
        threading.Thread(target=self._drain, args=(self.child.stdout, []), daemon=True).start()

    @staticmethod
    def _drain(stream: IO[str], lines: list[str]) -> None:
        lines.extend(stream)

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def wait(self) -> int:
        return self.child.wait(2 * WAIT)

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


class Server:
    """A server on the embedded store or in memory; `kill` and `start` keep its port."""

    def __init__(self, store: str) -> None:
        self.store, self.listen = store, "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        binary = os.environ.get("JOBWIRE_BIN")
        if not binary:
            pytest.fail("JOBWIRE_BIN is not set: it names the jobwire binary that these tests run against")
        command = [binary, "serve", "--store", self.store, "--listen", self.listen, "--http-listen", "127.0.0.1:0"]
        self.process = Process(*command)
        self.listen = json.loads(self.process.first_line)["listening"]
        self.url = f"jobwire://{self.listen}"

    def kill(self) -> None:
        self.process.end()

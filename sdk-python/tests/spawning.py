"""Processes of tests that talk to a scripted server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from scripted import Scripted

ROOT = Path(__file__).parent.parent
Spawn = Callable[..., "subprocess.Popen[str]"]


def environment(server: Scripted, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    return {**os.environ, "JOBWIRE_URL": server.url, "PYTHONPATH": path, **more}


class Spawner:
    """Starts Python processes, and ends them with the test."""

    def __init__(self, server: Scripted) -> None:
        self._server = server
        self._processes: list[subprocess.Popen[str]] = []

    def __call__(self, *command: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment(self._server, **env),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

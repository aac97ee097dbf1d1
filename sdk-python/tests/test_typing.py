"""Types are part of the interface: each checker accepts what is documented, and refuses what is wrong, line by line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CASES = ROOT / "tests" / "typing"
Found = list[tuple[str, int, str]]  # file, line, message


def mypy() -> Found:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file", "pyproject.toml"]
    files = [str(file.relative_to(ROOT)) for file in CASES.glob("*/*.py")]
    run = subprocess.run(
        [*command, *files],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    lines = re.findall(r"^(.+?):(\d+): error: (.*)$", run.stdout, re.MULTILINE)
    assert lines, run.stdout + run.stderr
    return [(str(Path(file).relative_to("tests/typing")), int(line), message) for file, line, message in lines]


def pyright() -> Found:
    run = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(CASES)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.stdout, run.stderr
    return [
        (str(Path(found["file"]).relative_to(CASES)), found["range"]["start"]["line"] + 1, found["message"])
        for found in json.loads(run.stdout)["generalDiagnostics"]
        if found["severity"] == "error"
    ]


@pytest.mark.parametrize("check", [mypy, pyright], ids=["mypy", "pyright"])
def test_what_type_checkers_say(check: Callable[[], Found]) -> None:
    marked = {
        (str(file.relative_to(CASES)), number)
        for file in CASES.glob("*/*.py")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if line.endswith("# error")
    }
    assert len(marked) > 30
    assert {file for file, _ in marked} == {"rejects/tasks.py"}
    found = check()
    unexpected = [f"{file}:{line}: {message}" for file, line, message in found if (file, line) not in marked]
    assert not unexpected, "\n".join(unexpected)
    # A call that fits no overload is one mistake, which checkers tell in two messages.
    assert marked - {(file, line) for file, line, _ in found} == set()

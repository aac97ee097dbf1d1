"""The public surface is frozen, typed, and free of protobuf types; the examples in it type-check."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import jobwire

ROOT = Path(__file__).parent.parent

NAMES = """
Aborted AlreadyExists App Cancelled Client Context DeadlineExceeded DecodeError DependencyResult Discard EnqueueResult
Events Explanation FailedPrecondition Failure Internal InvalidArgument Job JobCancelled JobControl JobEvent JobExpired
JobFailed JobNotSucceeded JobOptions JobState JobStatus JobwireError LogEvent NonRetryable NotFound Payload
PermissionDenied Progress ProgressEvent Queue Release ResourceExhausted Retry RetryAfter Snooze StateEvent Task
TaskCall Unauthenticated Unavailable Unimplemented Unique WaitReason Worker __version__ current_context
"""


def test_names_are_frozen() -> None:
    assert sorted(jobwire.__all__) == sorted(NAMES.split())
    assert all(hasattr(jobwire, name) for name in jobwire.__all__)


def test_everything_public_is_documented() -> None:
    for name in jobwire.__all__:
        thing = getattr(jobwire, name)
        if not inspect.isclass(thing) and not inspect.isfunction(thing):
            continue
        assert thing.__doc__, name
        members = vars(thing).items() if inspect.isclass(thing) else ()
        for member, value in members:
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{member}"


def test_importing_opens_nothing() -> None:
    code = "import threading, jobwire; jobwire.App(); print(threading.active_count())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "src", check=True)
    assert run.stdout == "1\n"


ACCEPTED = """
    from dataclasses import dataclass
    from jobwire import App, Context, Job, Retry, Task

    app = App()

    @dataclass
    class Mail:
        to: str

    @app.task("a", queue="q", timeout="30s", retry=Retry(max_attempts=8), unique=lambda m: m.to)
    async def send(ctx: Context, mail: Mail) -> int:
        return 1

    @app.task("b")
    def resize(path: str, width: int = 800) -> str:
        return path

    job: Job[int] = send.enqueue(Mail("x"))
    number: int = job.result(timeout=20)
    text: str = resize.opts(delay="10m", priority=2, tags=["x"]).enqueue("p", width=3).result()
    same: int = send.job("id").result()
    more: Job[str] = app.enqueue(resize.s("p"))

    async def main() -> None:
        other: Job[int] = await send.aenqueue(Mail("x"))
        result: int = await send.arun(Mail("x"))
        async for event in other.events():
            print(event)
"""
REFUSED = [
    "send.enqueue(1)",
    "send.enqueue()",
    'resize.enqueue("p", height=3)',
    "resize.opts(prio=2)",
    'resize.opts(retry="often")',
    'app.task("c", queue=3)',
    'wrong: str = send.enqueue(Mail("x")).result()',
    'app.enqueue("t", {}, delai="5s")',
]


def mypy(path: Path, code: str) -> subprocess.CompletedProcess[str]:
    path.write_text(textwrap.dedent(code))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file", "pyproject.toml"]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, cwd=ROOT, check=False)


def test_documented_use_is_accepted_and_wrong_use_refused_by_the_type_checker(tmp_path: Path) -> None:
    accepted = mypy(tmp_path / "accepted.py", ACCEPTED)
    assert accepted.returncode == 0, accepted.stdout
    code = textwrap.dedent(ACCEPTED) + "\n".join(REFUSED) + "\n"
    first = len(textwrap.dedent(ACCEPTED).splitlines()) + 1
    refused = mypy(tmp_path / "refused.py", code).stdout
    for index, line in enumerate(REFUSED):
        assert f"refused.py:{first + index}: error" in refused, f"{line!r} was accepted\n{refused}"


@pytest.mark.parametrize("name", ["hello.py", "hello_worker.py"])
def test_hello_world_is_at_most_twelve_lines(name: str) -> None:
    lines = (ROOT / "examples" / name).read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(('"""', "#"))]
    assert len(code) <= 12


def test_the_readme_shows_what_the_examples_run() -> None:
    blocks = (ROOT / "README.md").read_text().split("```python\n")[1:]
    examples = [path.read_text() for path in (ROOT / "examples").glob("*.py")]
    assert len(blocks) >= 4
    for block in blocks:
        snippet = block.split("```")[0]
        assert any(snippet in example for example in examples), snippet

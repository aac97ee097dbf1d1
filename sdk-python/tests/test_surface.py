"""The public surface is frozen, typed, and free of protobuf types."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import jobwire
import jobwire.testing

ROOT = Path(__file__).parent.parent

NAMES = """
Aborted After AlreadyExists App Backfill BatchContext BatchJob BulkResult Cancelled Canvas Chain Client Context
DeadlineExceeded DecodeError DependencyResult Discard EnqueueItem EnqueueResult Events Explanation FailedPrecondition
Failure Flow FlowOptions Group Internal InvalidArgument Job JobAttempt JobCancelled JobControl JobEvent JobExpired
JobFailed JobNotSucceeded JobOptions JobRecord JobState JobStatus JobwireError LogEvent Node NodeGroup NonRetryable
NotFound Payload Percentiles PermissionDenied Progress ProgressEvent Queue QueueOptions QueueStats QueueStatus
RateLimit Release ResourceExhausted Retry RetryAfter ScheduleOptions SchedulePreview SchedulePut ScheduleStatus Snooze
StateEvent Task TaskCall Unauthenticated Unavailable Unimplemented Unique WaitReason Worker WorkerStatus Workflow
WorkflowFailed WorkflowNodeStatus WorkflowState WorkflowStatus __version__ chain chord current_context group previous
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


@pytest.mark.parametrize("name", ["hello.py", "hello_worker.py"])
def test_hello_world_is_at_most_twelve_lines(name: str) -> None:
    lines = (ROOT / "examples" / name).read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(('"""', "#"))]
    assert len(code) <= 12


def test_names_of_the_helpers_are_frozen() -> None:
    assert jobwire.testing.__all__ == ["Enqueued", "FakeJobs", "TestServer", "fake", "inline", "test_server"]
    for name in jobwire.testing.__all__:
        thing = getattr(jobwire.testing, name)
        assert thing.__doc__, name
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{member}"


def test_no_protobuf_type_is_public() -> None:
    things = [getattr(jobwire, name) for name in jobwire.__all__]
    things += [getattr(jobwire.testing, name) for name in jobwire.testing.__all__]
    found = []
    for thing in things:
        members = dict(inspect.getmembers(thing)) if inspect.isclass(thing) else {}
        public = [thing, *(value for name, value in members.items() if not name.startswith("_"))]
        for value in public:
            value = getattr(value, "fget", value)
            annotations = getattr(value, "__annotations__", None) or {}
            found += [f"{thing}: {name}: {text}" for name, text in annotations.items() if "_pb2" in str(text)]
    assert not found

"""A session machine with a clock and a memory, for tests."""

from __future__ import annotations

import random
from typing import Any

from jobwire._errors import error_of
from jobwire._leases import (
    Command,
    Connect,
    Frame,
    Outcome,
    SessionConfig,
)
from jobwire._session import Session
from jobwire.v1 import common_pb2
from jobwire.v1 import worker_service_pb2 as pb


def ok(text: str = "1") -> Outcome:
    return Outcome(succeeded=pb.Succeeded(result=common_pb2.Payload(text=text)))


class Rig:
    """A machine, its clock, and what it wrote and asked for since the last look."""

    def __init__(self, connect: bool = True, **config: Any) -> None:
        config.setdefault("concurrency", 2)
        config.setdefault("prefetch", 0)
        self.session = Session(SessionConfig("s-1", types=["t"], **config), random.Random(7))
        self.now = 100.0
        self.server_seq = 0
        self.frames: list[Frame] = []
        self.commands: list[Command] = []
        if connect:
            self.poll()
            self.welcome()
            self.take()

    def poll(self, after: float = 0.0) -> Rig:
        self.now += after
        polled = self.session.poll(self.now)
        self.frames += polled.frames
        self.commands += polled.commands
        assert polled.wake > self.now or polled.commands or polled.frames, "the machine would spin"
        return self

    def send(self, **fields: Any) -> Rig:
        self.server_seq += 1
        self.session.received(pb.StreamJobsResponse(seq=self.server_seq, **fields), self.now)
        return self.poll()

    def welcome(self, **fields: Any) -> Rig:
        self.server_seq = 0
        welcome = pb.Welcome(slots=2, **fields)
        welcome.lease_ttl.seconds, welcome.delivery_ttl.seconds, welcome.heartbeat_interval.seconds = 30, 10, 10
        return self.send(welcome=welcome)

    def deliver(self, *tokens: str, **fields: Any) -> Rig:
        return self.send(
            jobs=[pb.JobLease(lease_token=t, task=pb.Task(id=f"job-{t}", type="t"), **fields) for t in tokens]
        )

    def finish(self, token: str, outcome: Outcome | None = None) -> Rig:
        self.session.finished(token, outcome or ok(), self.now)
        return self.poll()

    def drop(self, code: str = "UNAVAILABLE", **fields: Any) -> Rig:
        self.session.disconnected(error_of(code, "gone", **fields), self.now)
        return self.poll()

    def reconnect(self, **welcome: Any) -> Frame:
        """Breaks the stream, waits for the next one, and returns its Hello frame."""
        self.drop()
        hello = self.hello()
        self.welcome(**welcome)
        return hello

    def hello(self) -> Frame:
        for _ in range(3):
            connects = [c for c in self.commands if isinstance(c, Connect)]
            if connects:
                self.take()
                return connects[-1].hello
            self.poll(20.0)
        raise AssertionError("no reconnect")

    def take(self) -> tuple[list[Frame], list[Command]]:
        frames, commands = self.frames, self.commands
        self.frames, self.commands = [], []
        return frames, commands

    def commanded(self, kind: type[Command]) -> list[Any]:
        return [command for command in self.commands if isinstance(command, kind)]

    def outcomes(self) -> list[tuple[str, str | None]]:
        return [(o.lease_token, o.WhichOneof("result")) for frame in self.frames for o in frame.outcomes]

"""One EnqueueMany: its items are answered one by one, and repeated one by one."""

from __future__ import annotations

from typing import Any

from ._convert import enqueue_result
from ._errors import JobwireError, Unavailable
from ._types import EnqueueResult, JobState
from .v1 import job_service_pb2 as pb


class Batch:
    """Items on their way. `request` holds those that are still to be sent."""

    def __init__(self, request: pb.EnqueueManyRequest) -> None:
        self.request = request
        self._results: dict[int, EnqueueResult] = {}
        self._places = list(range(len(request.jobs)))

    @property
    def results(self) -> list[EnqueueResult]:
        """What became of each item, in order."""
        return [self._results[place] for place in sorted(self._results)]

    def answered(self, response: Any) -> JobwireError | None:
        """Keeps the answers. Returns why items have to be sent again, if any have: the store was away for them."""
        again: list[int] = []
        why: JobwireError | None = None
        for index, place in enumerate(self._places):
            if index < len(response.results):
                result = enqueue_result(response.results[index])
            else:
                left_out = Unavailable("the server left this job out of its answer", retryable=True)
                result = EnqueueResult("", "refused", JobState.UNKNOWN, left_out)
            self._results[place] = result
            if result.error is not None and result.error.code == "UNAVAILABLE" and result.error.retryable:
                again.append(index)
                why = why or result.error
        self.request = pb.EnqueueManyRequest(jobs=[self.request.jobs[index] for index in again])
        self._places = [self._places[index] for index in again]
        return why

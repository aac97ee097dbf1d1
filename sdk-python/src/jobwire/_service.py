"""What `client.jobs`, `.queues`, `.schedules` and `.workers` have in common: one call, many pages, many rounds.

Each of their methods has a twin for asyncio with an `a` before its name. Lists page by themselves as they are iterated;
bulk calls go on by themselves until everything that was chosen has been looked at.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from ._convert import item_error
from ._errors import InvalidArgument
from ._records import BulkResult
from .v1 import common_pb2

if TYPE_CHECKING:
    from ._client import Client

T = TypeVar("T")
IDS_MAX = 1000  # in one Selector
SAMPLES_MAX = 100


class Service:
    """Calls of one kind, over the connection of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _call(self, name: str, request: Any, *, repeat: bool = True) -> Any:
        return self._client._call(name, request, repeat=repeat)

    async def _acall(self, name: str, request: Any, *, repeat: bool = True) -> Any:
        return await self._client._acall(name, request, repeat=repeat)

    def _pages(self, name: str, request: Any, read: Callable[[Any], Iterable[T]]) -> Iterator[T]:
        while True:
            response = self._call(name, request)
            yield from read(response)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def _apages(self, name: str, request: Any, read: Callable[[Any], Iterable[T]]) -> AsyncIterator[T]:
        while True:
            response = await self._acall(name, request)
            for item in read(response):
                yield item
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def _bulk(self, name: str, requests: Iterable[Any], *, limit: int | None = None, repeat: bool = True) -> BulkResult:
        total = Total(limit)
        for request in requests:
            while total.ask(request):
                if not total.add(request, self._call(name, request, repeat=repeat).result):
                    break
        return total.result

    async def _abulk(
        self, name: str, requests: Iterable[Any], *, limit: int | None = None, repeat: bool = True
    ) -> BulkResult:
        total = Total(limit)
        for request in requests:
            while total.ask(request):
                if not total.add(request, (await self._acall(name, request, repeat=repeat)).result):
                    break
        return total.result


class Total:
    """The rounds of one bulk call, added up. `limit`: items in all."""

    def __init__(self, limit: int | None) -> None:
        self.result = BulkResult()
        self._left = limit

    def ask(self, request: Any) -> bool:
        """Prepares the next round; False when the limit is reached."""
        if self._left is None:
            return True
        request.limit = min(self._left, 10_000)
        return self._left > 0

    def add(self, request: Any, result: common_pb2.BulkResult) -> bool:
        """Adds one round; whether there is another for this request."""
        total = self.result
        self.result = BulkResult(
            matched=total.matched + result.matched_count,
            affected=total.affected + result.affected_count,
            sample_ids=(*total.sample_ids, *result.sample_ids)[:SAMPLES_MAX],
            errors={**total.errors, **{refused.id: item_error(refused.error) for refused in result.errors}},
        )
        if self._left is not None:
            self._left -= result.matched_count
        if not result.continue_token:
            return False
        request.continue_token = result.continue_token
        return True


def selected(request: Any, ids: tuple[Any, ...], filter: str) -> Iterator[Any]:
    """`request` for what was chosen, by ids (or things that have one) or by filter; 1,000 ids at a time."""
    if bool(ids) == bool(filter):
        raise InvalidArgument('choose by ids, or by filter="…" (everything: filter="*")', field="selector")
    if filter:
        request.selector.filter = filter
        yield request
        return
    names = [id_of(given) for given in ids]
    for start in range(0, len(names), IDS_MAX):
        part = copy.copy(request)
        part.selector.ids.extend(names[start : start + IDS_MAX])
        yield part


def id_of(given: Any) -> str:
    """An id, or the id of a handle."""
    id = given if isinstance(given, str) else getattr(given, "id", None)
    if not isinstance(id, str):
        raise InvalidArgument(f"ids: expected ids or handles, got {given!r}", field="selector.ids")
    return id

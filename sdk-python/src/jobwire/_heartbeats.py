"""The inventory: when it is due, and what the server has confirmed of it (W5, W6). Part of the pure machine."""

from __future__ import annotations

from collections.abc import Collection

from ._leases import Frame, Lease
from ._reports import NEVER

_UNANSWERED_MAX = 16  # a server that never answers must not fill memory


class Heartbeats:
    """Of the current stream. Durations in seconds."""

    def __init__(self) -> None:
        self._at = NEVER
        self._sent: dict[int, tuple[float, list[Lease]]] = {}
        self._unnamed: dict[str, float] = {}  # token → arrival, until a heartbeat names it or its outcome is sent

    def restart(self) -> None:
        """A new stream opens; its Hello names what is in hand."""
        self._sent.clear()
        self._unnamed.clear()

    def due_at(self, at: float) -> None:
        """The next one is due then at the latest."""
        self._at = at

    def hurry(self, now: float) -> None:
        """The next one is due now, if it is not already."""
        self._at = min(self._at, now)

    def arrived(self, token: str, now: float) -> None:
        """A lease to name before half of its delivery's life is over."""
        self._unnamed[token] = now

    def gone(self, token: str) -> None:
        """It need not be named any more."""
        self._unnamed.pop(token, None)

    def next_at(self, delivery_ttl: float) -> float:
        """When the next one is due."""
        oldest = next(iter(self._unnamed.values()), NEVER)
        return min(self._at, oldest + delivery_ttl / 2)

    def write(
        self, frame: Frame, leases: Collection[Lease], running: int, vitals: tuple[int, float], now: float
    ) -> None:
        """Names `leases` in a frame."""
        heartbeat = frame.heartbeat
        heartbeat.held.extend(lease.token for lease in leases)
        heartbeat.running, (heartbeat.rss_bytes, heartbeat.cpu_percent) = running, vitals
        self._sent[frame.seq] = (now, list(leases))
        if len(self._sent) > _UNANSWERED_MAX:
            del self._sent[next(iter(self._sent))]
        self._unnamed.clear()

    def acked(self, seq: int, lease_ttl: float) -> None:
        """The store has what was named up to frame `seq`: it may be relied on, counted from the sending."""
        for known in [known for known in self._sent if known <= seq]:
            sent, leases = self._sent.pop(known)
            for lease in leases:
                lease.trusted_until = sent + lease_ttl

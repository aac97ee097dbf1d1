"""The worker's health endpoint, for Kubernetes and Prometheus: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ._errors import InvalidArgument

_ADDRESS = re.compile(r"(?:(.+):)?(\d{1,5})")


@dataclass(frozen=True)
class Gauges:
    """What a worker is at, read from another thread."""

    slots: int
    running: int
    lag: float
    ready: bool


class Metrics:
    """Numbers of one worker. Thread-safe."""

    def __init__(self, gauges: Callable[[], Gauges]) -> None:
        self.gauges = gauges
        self.streams = 0  # opened so far
        self._ended: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def ended(self, type: str, outcome: str) -> None:
        """An attempt has ended here."""
        with self._lock:
            self._ended[type, outcome] += 1

    def text(self) -> str:
        """As Prometheus reads them."""
        now = self.gauges()
        with self._lock:
            ended = sorted(self._ended.items())
        jobs = [f'{{type={json.dumps(kind)},outcome="{outcome}"}} {count}' for (kind, outcome), count in ended]
        return "".join(
            (
                _family("jobwire_worker_slots", "gauge", "Leases that the worker takes at once.", [f" {now.slots}"]),
                _family("jobwire_worker_running", "gauge", "Handlers that run.", [f" {now.running}"]),
                _family(
                    "jobwire_worker_loop_lag_seconds",
                    "gauge",
                    "How late the event loop was when it was last measured, or is.",
                    [f" {now.lag:.6f}"],
                ),
                _family(
                    "jobwire_client_reconnects_total",
                    "counter",
                    "Streams opened after the first.",
                    [f" {max(self.streams - 1, 0)}"],
                ),
                _family("jobwire_worker_jobs_total", "counter", "Attempts that ended here, by type and outcome.", jobs),
            )
        )


class HealthServer:
    """Answers on a port of its own, in daemon threads. InvalidArgument when it cannot listen there."""

    def __init__(self, health: int | str, metrics: Metrics) -> None:
        host, port = health_address(health)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(self, metrics)

            def log_message(self, format: str, *args: Any) -> None:
                """Probes are no news."""

        try:
            self._server = Server((host, port), Handler)
        except OSError as error:
            raise InvalidArgument(
                f"health: cannot listen on {host}:{port}: {error.strerror or error}; give it a free port",
                field="health",
                cause=error,
            ) from error
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="jobwire-health", daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()


def health_address(health: int | str) -> tuple[str, int]:
    """Where to listen: a port of 127.0.0.1, or "host:port"."""
    match = _ADDRESS.fullmatch(str(health))
    if match is None or int(match[2]) > 65535 or isinstance(health, bool):
        raise InvalidArgument(f'health: expected a port or "host:port", got {health!r}', field="health")
    return (match[1] or "127.0.0.1").strip("[]"), int(match[2])


def _answer(request: BaseHTTPRequestHandler, metrics: Metrics) -> None:
    path = request.path.partition("?")[0]
    status, text = 200, "ok\n"
    if path == "/readyz" and not metrics.gauges().ready:
        status, text = 503, "not connected, or draining\n"
    elif path == "/metrics":
        text = metrics.text()
    elif path not in ("/livez", "/readyz"):
        status, text = 404, "/livez, /readyz or /metrics\n"
    body = text.encode()
    request.send_response(status)
    request.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def _family(name: str, kind: str, help: str, samples: Iterable[str]) -> str:
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n" + "".join(f"{name}{sample}\n" for sample in samples)

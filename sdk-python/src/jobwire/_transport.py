"""The one module that knows the gRPC library: addresses, channels, calls, streams, and statuses as errors.

Built on grpcio's sync stack: unary calls are futures (asyncio gets them bridged), streams are iterated by a thread.
Not aware of forks: a process that finds itself forked throws its Transport away and makes a new one.
"""

from __future__ import annotations

import os
import queue
import random
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

# Without it a forked child hangs on older grpcio when a stream was open. Read once, when the library is imported; an
# application that imports grpc first, and forks, sets it itself.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

import grpc

from ._errors import InvalidArgument, JobwireError, Unavailable, error_of
from ._status import parse_status_details
from .v1 import (
    admin_service_pb2_grpc,
    job_service_pb2_grpc,
    queue_service_pb2_grpc,
    schedule_service_pb2_grpc,
    worker_service_pb2_grpc,
    workflow_service_pb2_grpc,
)

DEFAULT_PORT = 7420
_SCHEMES = {"jobwire": False, "http": False, "jobwires": True, "https": True}
_CHANNEL_OPTIONS = [
    ("grpc.http2.lookahead_bytes", 1 << 20),  # stream window
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_send_message_length", 4 << 20),
    # Reconnecting is the callers' business; the library's own backoff (1 s to 2 min) would only add to theirs.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 5000),  # in truth the time limit of one connection attempt
    # A server that is frozen, or beyond a broken network, never says so: while calls are out it is asked. The library
    # asks after twice this time at the latest.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # of any ping: the one that measures the line may be out already
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True)
class Endpoint:
    """One server address."""

    host: str
    port: int
    tls: bool

    @property
    def address(self) -> str:
        """`host:port`, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Nobody else can listen in."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def parse_url(url: str) -> list[Endpoint]:
    """`jobwire://host[:port]` (TLS: `jobwires`; `http`, `https` mean the same), or several separated by commas."""
    if not isinstance(url, str):
        raise _no_url(url)
    endpoints = []
    for part in filter(None, (piece.strip() for piece in url.split(","))):
        try:
            split = urlsplit(part if "://" in part else f"jobwire://{part}")
            port = split.port or DEFAULT_PORT
        except ValueError as error:  # a port above 65535, half a bracket
            raise _no_url(part) from error
        if split.scheme not in _SCHEMES or not split.hostname or split.path.strip("/"):
            raise _no_url(part)
        endpoints.append(Endpoint(split.hostname, port, _SCHEMES[split.scheme]))
    if not endpoints:
        raise _no_url(url)
    return endpoints


def _no_url(given: object) -> InvalidArgument:
    return InvalidArgument(f"url: expected jobwire://host:port (TLS: jobwires://), got {given!r}", field="url")


@dataclass(frozen=True)
class Connection:
    """Where the servers are and how to speak to them. `token_file` is read again when the token is refused."""

    endpoints: tuple[Endpoint, ...]
    token: str = field(default="", repr=False)
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    plaintext_token: bool = False

    def __post_init__(self) -> None:
        for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if getattr(self, one) and not getattr(self, other):
                raise InvalidArgument(f"{other}: a client's certificate needs both {one} and {other}", field=other)
        exposed = [e.address for e in self.endpoints if not e.tls and not e.loopback]
        if (self.token or self.token_file) and exposed and not self.plaintext_token:
            raise InvalidArgument(
                f"url: the token would travel in plaintext to {exposed[0]}; use jobwires://, or allow it with "
                "plaintext_token=True",
                field="url",
            )


class Call(Future[Any]):
    """A unary call under way. Giving up on it with `abandon` cancels the call; `cancel` is not for callers."""

    rpc: Any = None

    def abandon(self) -> None:
        """Nobody waits for the answer."""
        if self.rpc is not None:
            self.rpc.cancel()


class Transport:
    """Channels to a deployment, made on first use. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        self._order = random.sample(connection.endpoints, len(connection.endpoints))
        self._at = 0
        self._channels: dict[Endpoint, Any] = {}
        self._methods: dict[tuple[Endpoint, str], Any] = {}
        self._token: str | None = None

    @property
    def endpoint(self) -> Endpoint:
        """The server that calls go to now."""
        return self._order[self._at % len(self._order)]

    def rotate(self, away_from: Endpoint | None = None) -> None:
        """The current server failed: the next one is current. With `away_from`, only if that one still is."""
        with self._lock:
            if away_from is None or away_from == self.endpoint:
                self._at += 1

    def unary(self, name: str, request: Any, timeout: float | None, *, blocking: bool = False) -> Call:
        """Starts a call of whichever service has it; the future ends with the response or a JobwireError.

        blocking: return when it has ended, which costs half: for a future, the library starts a thread per call.
        """
        endpoint = self.endpoint
        call = Call()
        call.set_running_or_notify_cancel()
        try:
            method, metadata = self._method(endpoint, name), self._metadata()
            if blocking:
                call.set_result(method(request, timeout=timeout, metadata=metadata))
                return call
            call.rpc = method.future(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            call.set_exception(self._error(endpoint, error))
            return call
        except (KeyboardInterrupt, SystemExit) as error:  # of a signal, while it was blocked
            call.set_exception(error)
            return call
        except JobwireError as error:  # a file that cannot be read
            call.set_exception(error)
            return call
        except Exception as error:  # the channel was closed, or the request does not encode
            call.set_exception(Unavailable(f"the call could not be made: {error}", retryable=False, cause=error))
            return call

        def done(rpc: Any) -> None:
            try:
                response = rpc.result()
            except grpc.FutureCancelledError as error:
                call.set_exception(error_of("CANCELLED", "the call was cancelled", cause=error))
            except grpc.RpcError as error:
                call.set_exception(self._error(endpoint, error))
            except Exception as error:
                call.set_exception(error)
            else:
                call.set_result(response)

        call.rpc.add_done_callback(done)
        return call

    def server_stream(self, name: str, request: Any) -> ServerStream:
        """Opens a server stream without a deadline."""
        endpoint = self.endpoint
        rpc = self._method(endpoint, name)(request, metadata=self._metadata())
        return ServerStream(self, endpoint, rpc)

    def bidi(self, name: str, first: Any, *, own_channel: bool = False) -> BidiStream:
        """Opens a bidirectional stream without a deadline, `first` being queued before anything is awaited.

        own_channel: on a connection of its own, which closes with the stream.
        """
        endpoint = self.endpoint
        channel = self._new_channel(endpoint) if own_channel else None
        method = _method(channel, name) if channel else self._method(endpoint, name)
        return BidiStream(self, endpoint, method, first, self._metadata(), channel)

    def close(self) -> None:
        """Ends every channel; calls under way fail."""
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
            self._methods.clear()
        for channel in channels:
            channel.close()

    def _method(self, endpoint: Endpoint, name: str) -> Any:
        method = self._methods.get((endpoint, name))
        if method is None:
            with self._lock:
                channel = self._channels.get(endpoint)
                if channel is None:
                    channel = self._channels[endpoint] = self._new_channel(endpoint)
                method = self._methods[endpoint, name] = _method(channel, name)
        return method

    def _new_channel(self, endpoint: Endpoint) -> Any:
        if not endpoint.tls:
            return grpc.insecure_channel(endpoint.address, _CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(
            *(_read(self.connection, name) for name in ("ca_file", "key_file", "cert_file"))
        )
        return grpc.secure_channel(endpoint.address, credentials, _CHANNEL_OPTIONS)

    def _metadata(self) -> list[tuple[str, str]]:
        token = self._token
        if token is None:
            read = _read(self.connection, "token_file")
            token = self._token = self.connection.token if read is None else read.decode(errors="replace").strip()
        return [("authorization", f"Bearer {token}")] if token else []

    def _error(self, endpoint: Endpoint, error: Any) -> JobwireError:
        code, message = error.code().name, error.details() or ""
        raw = next((value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"), b"")
        details = parse_status_details(raw)
        if code == "UNAUTHENTICATED":
            self._token = None  # a token file may have a new one
        if not details.reason:
            # From the library, not from a Jobwire server.
            if "Stream removed" in message or "RST_STREAM" in message:
                code = "UNAVAILABLE"
            if code == "UNAVAILABLE":
                message = _unreachable(endpoint, message)
        return error_of(
            code,
            message,
            reason=details.reason,
            field=details.field,
            retry_delay=details.retry_delay,
            metadata=details.metadata,
            cause=error,
        )


class ServerStream:
    """Responses of a server stream. Iterating raises JobwireError; ends silently after `cancel`."""

    def __init__(self, transport: Transport, endpoint: Endpoint, rpc: Any) -> None:
        self._transport = transport
        self._rpc = rpc
        self._cancelled = False
        self.endpoint = endpoint

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._rpc
        except grpc.RpcError as error:
            if not self._cancelled:
                raise self._transport._error(self.endpoint, error) from None

    def cancel(self) -> None:
        """Abandons the stream, from any thread."""
        self._cancelled = True
        self._rpc.cancel()


class BidiStream(ServerStream):
    """A stream both ways. `send` never blocks: what it may queue is bounded by its callers' windows."""

    def __init__(
        self, transport: Transport, endpoint: Endpoint, method: Any, first: Any, metadata: Any, channel: Any
    ) -> None:
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outgoing.put(first)
        self._channel = channel
        super().__init__(transport, endpoint, method(iter(self._outgoing.get, None), metadata=metadata))

    def send(self, message: Any) -> None:
        """Queues a message; after the stream has ended it goes nowhere."""
        self._outgoing.put(message)

    def half_close(self) -> None:
        """Nothing more will be sent."""
        self._outgoing.put(None)

    def cancel(self) -> None:
        """Abandons the stream and, with a channel of its own, the connection."""
        super().cancel()
        self._outgoing.put(None)  # lets the library's writer thread go
        if self._channel is not None:
            self._channel.close()


_SERVICES: tuple[Any, ...] = (
    job_service_pb2_grpc.JobServiceStub,
    worker_service_pb2_grpc.WorkerServiceStub,
    schedule_service_pb2_grpc.ScheduleServiceStub,
    queue_service_pb2_grpc.QueueServiceStub,
    admin_service_pb2_grpc.AdminServiceStub,
    workflow_service_pb2_grpc.WorkflowServiceStub,
)


def _method(channel: Any, name: str) -> Any:
    for stub in _SERVICES:
        method = getattr(stub(channel), name, None)
        if method is not None:
            return method
    raise AssertionError(f"no service has a call {name}")


def _unreachable(endpoint: Endpoint, message: str) -> str:
    if "andshake" in message:
        return (
            f"{endpoint.address} does not agree on TLS; ca_file, cert_file and key_file name certificates ({message})"
        )
    if any(words in message for words in ("failed to connect", "DNS resolution", "Connection refused")):
        return f"No Jobwire server at {endpoint.address}. Start one: jobwire dev ({message})"
    return f"Lost the Jobwire server at {endpoint.address} ({message})"


def _read(connection: Connection, name: str) -> bytes | None:
    path: str = getattr(connection, name)
    if not path:
        return None
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return file.read()
    except OSError as error:
        raise InvalidArgument(f"{name}: {path}: {error.strerror}", field=name, cause=error) from error

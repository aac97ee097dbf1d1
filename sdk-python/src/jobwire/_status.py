"""Reads `google.rpc.Status` out of the `grpc-status-details-bin` trailer.

Four tiny messages, read with a wire-format walk: declaring them would either need googleapis-common-protos or clash
with it in the default descriptor pool. Whatever cannot be read is left out; the status code stands without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclasses.dataclass
class StatusDetails:
    """What the details of a failed call add to its code and message."""

    reason: str = ""
    field: str = ""
    retry_delay: float | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)


def parse_status_details(raw: bytes) -> StatusDetails:
    """Details of an encoded google.rpc.Status; as many as can be read."""
    details = StatusDetails()
    try:
        for number, value in _fields(raw):
            if number == 3 and isinstance(value, bytes):
                _read_detail(value, details)
    except (ValueError, IndexError, UnicodeDecodeError):
        pass  # a garbled trailer must not hide the error it came with
    return details


def _read_detail(any_bytes: bytes, details: StatusDetails) -> None:
    parts = dict(_fields(any_bytes))
    body = _bytes(parts.get(2, b""))
    match _text(parts.get(1, b"")).rpartition("/")[2]:
        case "google.rpc.ErrorInfo":
            for number, value in _fields(body):
                if number == 1:
                    details.reason = _text(value)
                elif number == 3:
                    entry = dict(_fields(_bytes(value)))
                    details.metadata[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
        case "google.rpc.RetryInfo":
            duration = dict(_fields(_bytes(dict(_fields(body)).get(1, b""))))
            details.retry_delay = _int(duration.get(1, 0)) + _int(duration.get(2, 0)) / 1e9
        case "google.rpc.BadRequest":
            violation = dict(_fields(_bytes(next((v for n, v in _fields(body) if n == 1), b""))))
            details.field = _text(violation.get(1, b""))


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(raw, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(raw, at)
        elif kind == _FIXED64:
            size = 8
        elif kind == _FIXED32:
            size = 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(raw):
            raise ValueError("truncated")
        yield key >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def _bytes(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


def _int(value: int | bytes) -> int:
    return value if isinstance(value, int) else 0

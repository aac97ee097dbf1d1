"""Ids made by the client: UUIDs of version 7, so that a repeated enqueue is the same job."""

from __future__ import annotations

import os
import time


def uuid7() -> str:
    """A fresh UUIDv7 from the wall clock in milliseconds and 74 random bits. Safe after fork."""
    millis = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | random & (1 << 62) - 1
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

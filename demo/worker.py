"""The demo's Python worker: line, word and entropy statistics of files. The checksums it asks the Rust worker for."""

import asyncio
import math
import zlib
from collections import Counter
from pathlib import Path

from jobwire import App, Context

app = App()


def statistics(content: bytes) -> dict[str, float]:
    """Lines, words, and Shannon entropy in bits per byte."""
    counts = Counter(content)
    shares = [count / len(content) for count in counts.values()]
    return {
        "lines": content.count(b"\n"),
        "words": len(content.split()),
        "entropy": round(-sum(share * math.log2(share) for share in shares), 6) + 0.0,
    }


def is_unlucky(path: str) -> bool:
    """One file in twenty fails once, on purpose: by its name, so that everybody agrees on which."""
    return zlib.crc32(Path(path).name.encode()) % 20 == 0


@app.task("file.digest")
async def digest(ctx: Context, path: str) -> dict[str, object]:
    if is_unlucky(path) and ctx.attempt == 1:
        raise RuntimeError("the demo fails one job in twenty once, on purpose")
    content = await asyncio.to_thread(Path(path).read_bytes)
    checksums = await app.arun("file.checksum", {"path": path}, wait="60s")
    return {**statistics(content), **checksums}


if __name__ == "__main__":
    app.worker(concurrency=32).run()

"""Models of pydantic and msgspec, and protobuf messages, as payloads and results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
import pydantic
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from scripted import Scripted

import jobwire
from jobwire import App, DecodeError, Worker
from jobwire.v1 import common_pb2, job_pb2

T = TypeVar("T")
WHEN = datetime(2026, 11, 24, 12, 30, 0, 123000, tzinfo=timezone.utc)
ID = UUID("0193a2c4-7d1e-7003-9c55-5b1f0e6a4d21")
BIG = 2**90 + 1


class Color(Enum):
    RED = "red"


class Part(pydantic.BaseModel):
    name: str
    price: Decimal


class Order(pydantic.BaseModel):
    id: UUID
    at: datetime
    count: int
    color: Color = Color.RED
    parts: list[Part] = []
    note: str | None = pydantic.Field(default=None, alias="theNote")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    at: datetime


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Point(msgspec.Struct):
    x: int
    at: datetime
    raw: bytes = b""
    color: Color = Color.RED


class Number(pydantic.BaseModel):
    value: float


class Other(msgspec.Struct):
    value: float


@dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("odd")


def sent(server: Scripted, name: str) -> Any:
    return next(json.loads(r.job.payload.text) for r in reversed(server.named("Enqueue")) if r.job.type == name)


def round_trip(server: Scripted, app: App, work: Callable[..., Worker], annotation: Any, value: Any) -> tuple[Any, Any]:
    """What travels, and what the handler gets; the result must come back the same."""
    got: list[Any] = []

    def handler(value: Any) -> Any:
        got.append(value)
        return value

    handler.__annotations__ = {"value": annotation, "return": annotation}
    task: jobwire.Task[..., Any] = app.task("t")(handler)
    task.enqueue(value)
    body = sent(server, "t")
    work()
    stream = server.stream()
    stream.welcome()
    stream.job("a", "t", json.dumps(body))
    outcome = stream.outcome("a")
    assert outcome.WhichOneof("result") == "succeeded", outcome
    assert task.decode_result(json.loads(outcome.succeeded.result.text)) == value
    return body, got[0]


def test_a_pydantic_model_is_the_object(server: Scripted, app: App, work: Callable[..., Worker]) -> None:
    order = Order(id=ID, at=WHEN, count=BIG, parts=[Part(name="ä", price=Decimal("1.10"))], theNote="hi")
    body, got = round_trip(server, app, work, Order, order)
    assert body == {
        "id": str(ID),
        "at": "2026-11-24T12:30:00.123000Z",
        "count": BIG,
        "color": "red",
        "parts": [{"name": "ä", "price": "1.10"}],
        "theNote": "hi",
    }
    assert got == order


def test_a_msgspec_struct_is_the_object(server: Scripted, app: App, work: Callable[..., Worker]) -> None:
    point = Point(BIG, WHEN, b"\xff\x00")
    body, got = round_trip(server, app, work, Point, point)
    assert body == {"x": BIG, "at": "2026-11-24T12:30:00.123000Z", "raw": "/wA=", "color": "red"}
    assert got == point


def test_a_protobuf_message_travels_as_canonical_json(server: Scripted, app: App, work: Callable[..., Worker]) -> None:
    message = job_pb2.Progress(percent=50, current=2**40, message="m", update_time=Timestamp(seconds=1, nanos=5000000))
    body, got = round_trip(server, app, work, job_pb2.Progress, message)
    assert body == {"percent": 50.0, "current": str(2**40), "message": "m", "updateTime": "1970-01-01T00:00:01.005Z"}
    assert got == message


def test_models_inside_of_other_types(server: Scripted, app: App, work: Callable[..., Worker]) -> None:
    value = {"a": [Part(name="x", price=Decimal(1))]}
    body, got = round_trip(server, app, work, dict[str, list[Part]], value)
    assert body == {"a": [{"name": "x", "price": "1"}]}
    assert got == value


def test_generic_and_strict_models(server: Scripted, app: App, work: Callable[..., Worker]) -> None:
    body, _ = round_trip(server, app, work, Page[Strict], Page[Strict](items=[Strict(at=WHEN)]))
    assert body == {"items": [{"at": "2026-11-24T12:30:00.123000Z"}]}


def signature(function: Callable[..., Any]) -> Any:
    return App("jobwire://127.0.0.1:1").task("t")(function).signature


def test_pydantics_own_types(server: Scripted, app: App, work: Callable[..., Worker]) -> None:
    url = pydantic.HttpUrl("http://example.com/a")
    body, got = round_trip(server, app, work, dict[str, pydantic.HttpUrl], {"a": url})
    assert body == {"a": "http://example.com/a"}
    assert got == {"a": url}


def test_several_models_are_keys() -> None:
    def handler(part: Part, point: Point) -> None: ...

    encoded = signature(handler).encode((Part(name="x", price=Decimal(1)), Point(1, WHEN)), {})
    assert set(encoded) == {"part", "point"}


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (Part, {"name": "x"}, "price"),
        (Part, {"name": "x", "price": "much"}, "price"),
        (Point, {"x": "1", "at": "2026-11-24T12:30:00Z"}, "Expected `int`, got `str` - at `$.x`"),
        (Point, [], "Expected `object`, got `array`"),
        (job_pb2.Progress, {"current": "many"}, "current"),
        (job_pb2.Progress, [], ""),
        (Annotated[int, pydantic.Field(gt=3)], 3, "greater than 3"),
        (pydantic.HttpUrl, "nowhere", "valid URL"),
    ],
)
def test_what_does_not_fit_is_a_decode_error(annotation: Any, value: Any, words: str) -> None:
    def handler(value: Any, more: int = 0) -> None: ...

    handler.__annotations__["value"] = annotation
    with pytest.raises(DecodeError, match=r"^value: ") as caught:
        signature(handler).decode({"value": value})
    assert words in str(caught.value)


def test_fields_that_a_message_does_not_know_are_ignored() -> None:
    def handler(progress: job_pb2.Progress) -> None: ...

    (args, kwargs) = signature(handler).decode({"percent": 1, "newer": {}})
    assert (args, kwargs) == ([], {"progress": job_pb2.Progress(percent=1)})


def test_nan_is_refused_in_models_too(app: App) -> None:
    @app.task("pydantic")
    def first(number: Number) -> None: ...

    @app.task("msgspec")
    def second(number: Other) -> None: ...

    with pytest.raises(jobwire.InvalidArgument, match="payload"):
        first.enqueue(Number(value=float("nan")))
    with pytest.raises(jobwire.InvalidArgument, match="payload"):
        second.enqueue(Other(float("inf")))


def test_a_class_that_refuses_its_values_makes_the_job_unprocessable(
    server: Scripted, app: App, work: Callable[..., Worker]
) -> None:
    @app.task("t")
    def handler(even: Even) -> int:
        return even.number

    work()
    stream = server.stream()
    stream.welcome()
    stream.job("a", "t", '{"number": 3}')
    failure = stream.outcome("a").failed.failure
    assert failure.kind == common_pb2.FAILURE_KIND_UNPROCESSABLE
    assert "odd" in failure.message


def test_neither_library_is_imported_by_the_sdk() -> None:
    code = """
import sys
from jobwire import App
app = App()
@app.task("t")
def task(a: list[int], b: dict[str, object]) -> None: ...
assert task.signature.decode({"a": [1], "b": {}})
assert not {"pydantic", "msgspec", "requests", "httpx", "aiohttp", "psycopg"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

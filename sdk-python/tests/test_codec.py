"""JSON by annotation, durations, ids and error details."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict
from uuid import UUID

import pytest
from scripted import status_details
from typing_extensions import NotRequired

from jobwire import Context, InvalidArgument
from jobwire._codec import DecodeError, decoder, dumps, is_object_type, loads
from jobwire._ids import uuid7
from jobwire._status import parse_status_details
from jobwire._tasks import Signature
from jobwire._types import to_seconds


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)
    at: Point | None = None


class Options(TypedDict):
    width: int
    title: NotRequired[str]


UserId = NewType("UserId", int)
MOMENT = datetime(2026, 11, 1, 12, 30, 0, 250000, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (int, 2**70, str(2**70)),
        (str, "ä\u2028", '"ä\u2028"'),
        (float, 1.5, "1.5"),
        (bool, True, "true"),
        (None, None, "null"),
        (bytes, b"\xff\x00", '"/wA="'),
        (datetime, MOMENT, '"2026-11-01T12:30:00.250000+00:00"'),
        (date, date(2026, 11, 1), '"2026-11-01"'),
        (timedelta, timedelta(seconds=90, milliseconds=500), '"90.5s"'),
        (UUID, UUID(int=5), f'"{UUID(int=5)}"'),
        (Decimal, Decimal("1.10"), '"1.10"'),
        (Color, Color.RED, '"red"'),
        (Literal["a", 1], 1, "1"),
        (list[int], [1, 2], "[1,2]"),
        (tuple[int, str], (1, "a"), '[1,"a"]'),
        (tuple[int, ...], (1, 2, 3), "[1,2,3]"),
        (set[int], {4}, "[4]"),
        (dict[str, list[Point]], {"a": [Point(1, 2.0)]}, '{"a":[{"x":1,"y":2.0}]}'),
        (dict[int, str], {7: "x"}, '{"7":"x"}'),
        (Tree, Tree("r", [Tree("c")], Point(1)), None),
        (Options, {"width": 3}, '{"width":3}'),
        (Optional[Point], None, "null"),  # noqa: UP045, the old spelling counts as well
        (int | str, "7", '"7"'),
        (float | None, 2.0, "2.0"),
        (datetime | None, MOMENT, None),
        (UserId, 7, "7"),
        (Annotated[int, "doc"], 7, "7"),
        (Any, {"a": [1, None]}, '{"a":[1,null]}'),
    ],
)
def test_values_come_back_as_they_went(annotation: Any, value: Any, text: str | None) -> None:
    encoded = dumps(value)
    assert text is None or encoded == text
    decoded = decoder(annotation)(loads(encoded), "v")
    assert decoded == value
    assert type(decoded) is type(value)


def test_times_with_z_are_read() -> None:
    assert decoder(datetime)("2026-11-01T12:30:00.25Z", "") == MOMENT


def test_integers_from_doubles_and_doubles_from_integers() -> None:
    assert decoder(int)(3.0, "") == 3
    assert type(decoder(float)(3, "")) is float


@pytest.mark.parametrize(
    ("annotation", "value", "complaint"),
    [
        (int, "1", "v: expected an integer, got a string"),
        (int, True, "v: expected an integer, got a boolean"),
        (int, 1.5, "v: expected an integer"),
        (str, None, "v: expected a string, got null"),
        (Point, {}, "v.x: missing"),
        (Point, {"x": "1"}, "v.x: expected an integer"),
        (Tree, {"name": "r", "children": [{"name": 1}]}, r"v.children\[0\].name: expected a string"),
        (Options, {"title": "t"}, "v.width: missing"),
        (list[int], {"0": 1}, "v: expected an array, got an object"),
        (dict[str, int], {"k": "x"}, "v.k: expected an integer"),
        (tuple[int, str], [1], "v: expected an array of 2"),
        (Color, "blue", "v: 'blue' is not a Color"),
        (Literal["a"], "b", "v: expected one of 'a', got 'b'"),
        (datetime, "yesterday", "v: 'yesterday' is not an RFC 3339 time"),
        (bytes, "???", "is not base64"),
        (UUID, "x", "v: 'x' is not a UUID"),
        (timedelta, "5", "v: '5' is not a duration"),
        (Point | None, 3, "v: expected"),
    ],
)
def test_what_does_not_fit_names_its_place(annotation: Any, value: Any, complaint: str) -> None:
    with pytest.raises(DecodeError, match=complaint):
        decoder(annotation)(value, "v")


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", ""])
def test_broken_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011, every parser's own words
        loads(text)


@pytest.mark.parametrize("annotation", [object(), type("Odd", (), {}), complex])
def test_annotations_that_cannot_be_read_are_refused_when_declared(annotation: Any) -> None:
    with pytest.raises(TypeError, match="cannot be read from JSON"):
        decoder(annotation)


def test_object_types() -> None:
    assert all(is_object_type(kind) for kind in (Point, Options, dict, dict[str, int], Annotated[Point, 1]))
    assert not any(is_object_type(kind) for kind in (int, list[Point], Point | None, Any, Color))


# --- signatures -----------------------------------------------------------------------------------------------------


def test_a_sole_model_is_the_object_but_beside_others_it_is_a_key() -> None:
    def sole(point: Point) -> None: ...
    def two(point: Point, n: int = 0) -> None: ...

    assert json.loads(dumps(Signature(sole).encode((Point(1),), {}))) == {"x": 1, "y": 0.0}
    assert Signature(sole).decode({"x": 2}) == ([], {"point": Point(2)})
    assert json.loads(dumps(Signature(two).encode((Point(1),), {}))) == {"point": {"x": 1, "y": 0.0}}
    assert Signature(two).decode({"point": {"x": 2}, "unknown": 1}) == ([], {"point": Point(2)})


def test_context_is_not_part_of_the_signature() -> None:
    def annotated(job: Context, n: int) -> None: ...
    def named(ctx, n: int) -> None: ...  # type: ignore[no-untyped-def]
    def plain(n: int) -> None: ...

    assert Signature(annotated).takes_context
    assert Signature(named).takes_context
    assert not Signature(plain).takes_context
    assert Signature(named).encode((1,), {}) == {"n": 1}


def test_positional_only_and_rest_parameters() -> None:
    def handler(a: int, /, b: int = 2, *, c: int = 3, **rest: int) -> None: ...

    signature = Signature(handler)
    assert signature.encode((1,), {"c": 4, "d": 5}) == {"a": 1, "c": 4, "d": 5}
    assert signature.decode({"a": 1, "d": 5}) == ([1], {"d": 5})
    with pytest.raises(TypeError, match=r"\*args"):
        Signature(lambda *args: None)


# --- durations, ids, details ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("250ms", 0.25), ("1.5s", 1.5), ("2 m", 120), ("3h", 10800), ("1d", 86400), (7, 7.0), (timedelta(minutes=1), 60)],
)
def test_durations(given: Any, seconds: float) -> None:
    assert to_seconds(given) == seconds


@pytest.mark.parametrize(
    "given", ["", "5", "5 parsecs", "-1s", -1, None, True, "1h30m", [], float("nan"), float("inf"), "9999999999d"]
)
def test_wrong_durations(given: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        to_seconds(given, "delay")
    assert caught.value.field == "delay"


def test_uuid7_is_well_formed_and_rises_with_time() -> None:
    first = uuid.UUID(uuid7())
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
    assert abs((first.int >> 80) - time.time() * 1000) < 5000
    assert len({uuid7() for _ in range(1000)}) == 1000


def test_status_details_are_read() -> None:
    raw = status_details("QUEUE_FULL", metadata={"queue": "mail", "max": "5"}, retry_ms=90_500, field="job.queue")[0][1]
    details = parse_status_details(raw)
    assert (details.reason, details.field, details.retry_delay) == ("QUEUE_FULL", "job.queue", 90.5)
    assert details.metadata == {"queue": "mail", "max": "5"}


def test_garbled_details_are_left_out() -> None:
    raw = status_details("QUEUE_FULL", metadata={"queue": "mail"}, retry_ms=500)[0][1]
    for cut in range(len(raw)):
        parse_status_details(raw[:cut])
        parse_status_details(b"\xff" + raw[cut:])

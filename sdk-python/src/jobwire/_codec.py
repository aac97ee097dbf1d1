"""JSON in and out, by type annotation.

Out: JSON types, dataclasses, enums, dates and times (RFC 3339), bytes (base64), UUID and Decimal (strings), sets and
tuples (arrays), models of pydantic and msgspec, protobuf messages. NaN and infinity are refused. In: the same, checked
against the annotation; integers stay exact. Nothing is looked up by a name from the wire.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, NewType, TypeVar, Union
from uuid import UUID

from . import _models
from ._errors import InvalidArgument

Decoder = Callable[[Any, str], Any]


class DecodeError(ValueError):
    """A JSON value does not fit the annotation; the message names the place."""


def dumps(value: Any, name: str = "payload") -> str:
    """Compact JSON text. InvalidArgument naming `name` when something in it has no JSON form."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{name}: {error}", field=name, cause=error) from error


def loads(text: str | bytes) -> Any:
    """JSON text to plain values; NaN and infinity are refused."""
    return _decoder.decode(text) if isinstance(text, str) else json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(word: str) -> Any:
    raise DecodeError(f"{word} is not JSON")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("a datetime needs a time zone; use datetime.now(timezone.utc)")
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, UUID | Decimal):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, AbstractSet | types.MappingProxyType):
        return dict(value) if isinstance(value, types.MappingProxyType) else list(value)
    return _models.plain(value)


# Made once: the functions of the module make them anew for each call.
_encoder = json.JSONEncoder(default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def is_object_type(annotation: Any) -> bool:
    """Whether values of this annotation are whole JSON objects: a model, dataclass, TypedDict or mapping."""
    annotation = _unwrap(annotation)
    origin = typing.get_origin(annotation) or annotation
    if not isinstance(origin, type):
        return False
    return dataclasses.is_dataclass(origin) or issubclass(origin, Mapping) or _models.is_model(origin)


def decoder(annotation: Any) -> Decoder:
    """A function (JSON value, path) → value of `annotation`. TypeError for an annotation that cannot be decoded."""
    if (adapted := _models.adapter(annotation)) is not None:
        return _model(adapted)
    annotation = _unwrap(annotation)
    if annotation in (Any, object) or isinstance(annotation, TypeVar):
        return lambda value, path: value
    if annotation is None or annotation is type(None):
        return _exactly(type(None), "null")
    if (simple := _SIMPLE.get(annotation) if isinstance(annotation, type) else None) is not None:
        return simple
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return _union([decoder(arg) for arg in args], annotation)
    if origin is Literal:
        return _literal(args)
    base = origin or annotation
    if (read := _models.reader(base)) is not None:
        return _model(read)
    if isinstance(base, type):
        if issubclass(base, enum.Enum):
            return _enum(base)
        if dataclasses.is_dataclass(base):
            return _record(base, _dataclass_fields(base), lambda **values: base(**values))
        if issubclass(base, dict) and hasattr(base, "__required_keys__"):
            return _record(base, _typeddict_fields(base), dict)
        if base is tuple:
            return _tuple(args)
        if base in (list, Sequence, Iterable, MutableSequence):
            return _array(args, list)
        if base in (set, frozenset, AbstractSet):
            return _array(args, frozenset if base is frozenset else set)
        if base in (dict, Mapping, MutableMapping):
            return _mapping(args)
    raise TypeError(
        f"{annotation!r} cannot be read from JSON: use JSON types, dataclasses, TypedDicts, enums, "
        "datetime, date, timedelta, UUID, Decimal, bytes, models of pydantic or msgspec, or protobuf messages"
    )


def _unwrap(annotation: Any) -> Any:
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif getattr(typing.get_origin(annotation), "_name", "") in ("Required", "NotRequired"):
            annotation = typing.get_args(annotation)[0]
        else:
            return annotation


def _wrong(value: Any, path: str, expected: str) -> DecodeError:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    got = names.get(type(value), "a number")
    return DecodeError(f"{path or 'value'}: expected {expected}, got {got}")


def _exactly(kind: type, name: str) -> Decoder:
    def decode(value: Any, path: str) -> Any:
        if type(value) is not kind:
            raise _wrong(value, path, name)
        return value

    return decode


def _float(value: Any, path: str) -> float:
    if type(value) not in (int, float):
        raise _wrong(value, path, "a number")
    return float(value)


def _int(value: Any, path: str) -> int:
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not int:
        raise _wrong(value, path, "an integer")
    return value


def _parsed(parse: Callable[[str], Any], name: str) -> Decoder:
    def decode(value: Any, path: str) -> Any:
        if type(value) is not str:
            raise _wrong(value, path, name)
        try:
            return parse(value)
        except (ValueError, InvalidOperation) as error:
            raise DecodeError(f"{path or 'value'}: {value!r} is not {name}") from error

    return decode


_FRACTION = re.compile(r"\.(\d+)")


def _parse_datetime(text: str) -> datetime:
    # Python 3.10 knows neither Z nor fractions of other than three or six digits.
    text = text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text
    return datetime.fromisoformat(_FRACTION.sub(lambda match: f".{match[1][:6]:0<6}", text))


def _parse_timedelta(text: str) -> timedelta:
    if not text.endswith("s"):
        raise ValueError("no unit")
    return timedelta(seconds=float(text[:-1]))


_SIMPLE: dict[type, Decoder] = {
    str: _exactly(str, "a string"),
    bool: _exactly(bool, "a boolean"),
    int: _int,
    float: _float,
    datetime: _parsed(_parse_datetime, "an RFC 3339 time"),
    date: _parsed(date.fromisoformat, "a date"),
    timedelta: _parsed(_parse_timedelta, 'a duration such as "1.5s"'),
    UUID: _parsed(UUID, "a UUID"),
    Decimal: _parsed(Decimal, "a decimal"),
    bytes: _parsed(lambda text: base64.b64decode(text, validate=True), "base64"),
}


def _model(read: Callable[[Any], Any]) -> Decoder:
    def decode(value: Any, path: str) -> Any:
        try:
            return read(value)
        except ValueError as error:  # the libraries' own errors among them
            raise DecodeError(f"{path}: {error}" if path else str(error)) from error

    return decode


def _union(arms: list[Decoder], annotation: Any) -> Decoder:
    # An arm that leaves the value as it is wins; otherwise the first that fits.
    def decode(value: Any, path: str) -> Any:
        candidates = []
        for arm in arms:
            try:
                decoded = arm(value, path)
            except DecodeError:
                continue
            if type(decoded) is type(value):
                return decoded
            candidates.append(decoded)
        if candidates:
            return candidates[0]
        raise _wrong(value, path, str(annotation))

    return decode


def _literal(allowed: tuple[Any, ...]) -> Decoder:
    def decode(value: Any, path: str) -> Any:
        for option in allowed:
            if value == option and type(value) is type(option):
                return option
        raise DecodeError(f"{path or 'value'}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")

    return decode


def _enum(base: type[enum.Enum]) -> Decoder:
    def decode(value: Any, path: str) -> Any:
        try:
            return base(value)
        except ValueError:
            raise DecodeError(f"{path or 'value'}: {value!r} is not a {base.__name__}") from None

    return decode


def _dataclass_fields(base: type) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(base, include_extras=True)
    missing = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(base)
        if field.init
    }


def _typeddict_fields(base: Any) -> dict[str, tuple[Any, bool]]:
    # Under postponed annotations __required_keys__ knows only `total`, not Required and NotRequired.
    fields = {}
    for key, hint in typing.get_type_hints(base, include_extras=True).items():
        marker = getattr(typing.get_origin(hint), "_name", "")
        fields[key] = (hint, marker == "Required" or (marker != "NotRequired" and key in base.__required_keys__))
    return fields


def _record(base: type, fields: dict[str, tuple[Any, bool]], build: Callable[..., Any]) -> Decoder:
    # Filled on first use, so that a class may refer to itself.
    decoders: dict[str, Decoder] = {}

    def decode(value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise _wrong(value, path, f"an object ({base.__name__})")
        if not decoders:
            decoders.update({name: decoder(hint) for name, (hint, _) in fields.items()})
        values = {}
        for name, (_, required) in fields.items():
            if name in value:
                values[name] = decoders[name](value[name], f"{path}.{name}" if path else name)
            elif required:
                raise DecodeError(f"{path + '.' if path else ''}{name}: missing")
        try:
            return build(**values)
        except (TypeError, ValueError) as error:  # what the class itself thinks of them
            raise DecodeError(f"{path or base.__name__}: {error}") from error

    return decode


def _array(args: tuple[Any, ...], build: Callable[[list[Any]], Any]) -> Decoder:
    item = decoder(args[0]) if args else decoder(Any)

    def decode(value: Any, path: str) -> Any:
        if type(value) is not list:
            raise _wrong(value, path, "an array")
        return build([item(element, f"{path}[{index}]") for index, element in enumerate(value)])

    return decode


def _tuple(args: tuple[Any, ...]) -> Decoder:
    if not args or args[-1] is Ellipsis:
        return _array(args[:1], tuple)
    items = [decoder(arg) for arg in args]

    def decode(value: Any, path: str) -> Any:
        if type(value) is not list or len(value) != len(items):
            raise _wrong(value, path, f"an array of {len(items)}")
        return tuple(item(element, f"{path}[{i}]") for i, (item, element) in enumerate(zip(items, value, strict=True)))

    return decode


def _mapping(args: tuple[Any, ...]) -> Decoder:
    key, item = (_key(args[0]), decoder(args[1])) if args else (_key(str), decoder(Any))

    def decode(value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise _wrong(value, path, "an object")
        return {key(k, path): item(v, f"{path}.{k}" if path else k) for k, v in value.items()}

    return decode


def _key(annotation: Any) -> Decoder:
    annotation = _unwrap(annotation)
    if annotation is int:
        return _parsed(int, "an integer key")
    return decoder(annotation)

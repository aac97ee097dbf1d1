"""Models of other libraries: pydantic, msgspec and protobuf. Each keeps its own rules for its JSON form.

pydantic and msgspec are never imported here: a value or an annotation of theirs cannot exist before the application
has imported them.
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message


class NotAModel(TypeError):
    """Nothing here knows it."""


def is_model(kind: Any) -> bool:
    """Whether the class is a pydantic or msgspec model, or a protobuf message."""
    return isinstance(kind, type) and (_is_pydantic(kind) or _is_msgspec(kind) or issubclass(kind, Message))


def plain(value: Any) -> Any:
    """A model as JSON values. NotAModel for anything else; the library's own errors as TypeError or ValueError."""
    kind = type(value)
    if _is_pydantic(kind):
        return value.model_dump(mode="json", by_alias=True)
    if _is_msgspec(kind):
        return sys.modules["msgspec"].to_builtins(value)
    if isinstance(value, Message):
        return json_format.MessageToDict(value)
    if _of_pydantic(kind):
        return sys.modules["pydantic"].TypeAdapter(kind).dump_python(value, mode="json")
    raise NotAModel(f"{kind.__module__}.{kind.__qualname__} has no JSON form")


def reader(kind: Any) -> Callable[[Any], Any] | None:
    """A function from JSON values to the model, which raises ValueError; None when nothing here knows the class."""
    if not isinstance(kind, type):
        return None
    if _is_pydantic(kind):
        # From text, so that it applies its rules for JSON and not those for Python's own types.
        return lambda value: kind.model_validate_json(json.dumps(value))  # type: ignore[attr-defined]
    if _is_msgspec(kind):
        convert = sys.modules["msgspec"].convert
        return lambda value: convert(value, kind)
    if issubclass(kind, Message):
        return lambda value: _message(kind, value)
    return None


def adapter(annotation: Any) -> Callable[[Any], Any] | None:
    """What pydantic makes of one of its own types, such as HttpUrl; None for any other."""
    if typing.get_origin(annotation) is typing.Annotated:
        known = any(_of_pydantic(type(item)) for item in typing.get_args(annotation)[1:])
    else:
        known = _of_pydantic(annotation)
    if not known or "pydantic" not in sys.modules:
        return None
    adapted = sys.modules["pydantic"].TypeAdapter(annotation)
    return lambda value: adapted.validate_json(json.dumps(value))


def _message(kind: type[Message], value: Any) -> Message:
    if type(value) is not dict and not kind.DESCRIPTOR.full_name.startswith("google.protobuf."):
        raise ValueError(f"expected an object ({kind.DESCRIPTOR.full_name})")
    try:
        return json_format.ParseDict(value, kind(), ignore_unknown_fields=True)
    except (json_format.ParseError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _of_pydantic(kind: Any) -> bool:
    return getattr(kind, "__module__", "").partition(".")[0] in ("pydantic", "annotated_types")


def _is_pydantic(kind: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel) and hasattr(kind, "model_validate_json")


def _is_msgspec(kind: type) -> bool:
    msgspec = sys.modules.get("msgspec")
    return msgspec is not None and issubclass(kind, msgspec.Struct)

"""Results of other nodes that belong into the input of a job, by the header `jobwire-bind`. Pure.

docs/sdk-protocol.md has the rules, tests/conformance/bind the cases of all languages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._codec import DecodeError

HEADER = "jobwire-bind"
LIST = "[]"  # behind a key: the results of all aliases that name it, as a list
Result = tuple[str, Any]  # alias, value; None of a parent that did not succeed


def bound(value: Any, header: str | None, results: Sequence[Result], parameters: Sequence[str] | None) -> Any:
    """A payload with the results where its header says. DecodeError where they do not fit.

    parameters: keys of the payload in order; None where it is the input as a whole.
    """
    if header is None:
        return value
    for key, result in _collected(_parsed(header), results).items():
        if not key and parameters is not None and (free := _free(value, parameters)) is not None:
            value = _with(value, free, result)
        elif key:
            value = _with(value, key, result)
        else:
            value = _merged(result, value)
    return value


def _free(value: Any, parameters: Iterable[str]) -> str | None:
    given = value if isinstance(value, dict) else {}
    return next((name for name in parameters if name not in given), None)


def _with(value: Any, key: str, result: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise _unfit(f"the result for {key!r} has no place in an input that is no object")
    return {**(value or {}), key: result}


def _merged(result: Any, given: Any) -> Any:
    if given is None or given == {}:
        return result
    if isinstance(result, dict) and isinstance(given, dict):
        return {**result, **given}
    raise _unfit("a result that is no object cannot be the input beside what was given: bind it to a key")


def _collected(bind: Mapping[str, str], results: Sequence[Result]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for alias, key in bind.items():
        if key.endswith(LIST):
            values[key.removesuffix(LIST)] = [value for name, value in results if bind.get(name) == key]
        else:
            found = [value for name, value in results if name == alias]
            if not found:
                raise _unfit(f"the result of {alias!r} did not come")
            values[key] = found[0]
    return values


def _parsed(header: str) -> dict[str, str]:
    try:
        bind = json.loads(header)
    except ValueError:
        bind = None
    if not isinstance(bind, dict) or not all(isinstance(key, str) for key in bind.values()):
        raise _unfit("the header is no JSON object of strings")
    return bind


def _unfit(message: str) -> DecodeError:
    return DecodeError(f"{HEADER}: {message}")

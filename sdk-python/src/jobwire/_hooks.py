"""What surrounds handlers: context managers of an app, and of libraries that look after every app."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._context import Context

Hook = Callable[["Context"], AbstractContextManager[Any]]
everywhere: list[Hook] = []
_NOTHING = nullcontext()


def around(hooks: Sequence[Hook], context: Context) -> AbstractContextManager[Any]:
    """All of them, entered in order; what surrounds every app is outermost."""
    if not hooks and not everywhere:
        return _NOTHING
    with ExitStack() as stack:
        for hook in (*everywhere, *hooks):
            stack.enter_context(hook(context))
        return stack.pop_all()

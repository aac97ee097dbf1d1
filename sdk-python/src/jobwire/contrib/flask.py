"""Jobwire in Flask: configured by the Flask app, whose context surrounds every handler.

    jobs = Jobwire()

    def create_app() -> Flask:
        flask = Flask(__name__)
        jobs.init_app(flask)
        return flask

A worker needs the Flask app as well: `jobwire-worker mysite.wsgi:jobs`, where that module has called `create_app()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask import Flask

from .._app import App
from .._client import Client, ClientOptions
from .._context import Context

if TYPE_CHECKING:
    from typing_extensions import Unpack

_KEYS = ("token", "token_file", "ca_file", "cert_file", "key_file", "timeout", "plaintext_token")


class Jobwire(App):
    """An App that is a Flask extension: `Jobwire(flask)`, or `Jobwire()` and `init_app(flask)` later.

    Options as for App. `JOBWIRE_URL`, `JOBWIRE_TOKEN`, `JOBWIRE_TOKEN_FILE`, `JOBWIRE_CA_FILE`, `JOBWIRE_CERT_FILE`,
    `JOBWIRE_KEY_FILE`, `JOBWIRE_TIMEOUT` and `JOBWIRE_PLAINTEXT_TOKEN` of the Flask configuration win over them.
    """

    def __init__(self, flask: Flask | None = None, url: str | None = None, **options: Unpack[ClientOptions]) -> None:
        super().__init__(url, **options)
        self._given: tuple[str | None, dict[str, Any]] = (url, dict(options))
        self._flask: Flask | None = None
        self.around(self._in_context)
        if flask is not None:
            self.init_app(flask)

    def init_app(self, flask: Flask) -> None:
        """Takes the configuration of `flask`, and its context for handlers. Called again: of the new one."""
        self.close()
        url, options = self._given
        configured = {
            key: flask.config[f"JOBWIRE_{key.upper()}"] for key in _KEYS if f"JOBWIRE_{key.upper()}" in flask.config
        }
        Client.__init__(self, flask.config.get("JOBWIRE_URL", url), **{**options, **configured})
        self._flask = flask
        flask.extensions["jobwire"] = self

    @contextmanager
    def _in_context(self, _ctx: Context) -> Iterator[None]:
        if self._flask is None:
            raise RuntimeError("call init_app(flask) where the worker's module is imported: handlers need its context")
        with self._flask.app_context():
            yield

"""`manage.py jobwire_worker`: runs the site's tasks."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from jobwire import _cli


class Command(BaseCommand):
    """Options as of jobwire-worker; `--settings` comes by DJANGO_SETTINGS_MODULE."""

    help = "Run the tasks of this site; takes the options of jobwire-worker."

    def run_from_argv(self, argv: list[str]) -> None:
        """The options are the worker's own."""
        raise SystemExit(_cli.main(["jobwire.contrib.django.worker:app", *argv[2:]]))

    def handle(self, *args: str, **options: Any) -> None:
        """By `call_command("jobwire_worker", "--concurrency", "20")`."""
        raise SystemExit(_cli.main(["jobwire.contrib.django.worker:app", *args]))

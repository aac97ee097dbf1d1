"""The Django application."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class JobwireConfig(AppConfig):
    """Imports the `tasks` module of every installed app, so that producers and workers know all tasks."""

    name = "jobwire.contrib.django"
    label = "jobwire"
    verbose_name = "Jobwire"

    def ready(self) -> None:
        """Called by Django."""
        autodiscover_modules("tasks")

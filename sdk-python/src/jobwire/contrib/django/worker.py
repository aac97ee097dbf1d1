"""A Django site's App for processes that start without manage.py; needs DJANGO_SETTINGS_MODULE.

jobwire-worker jobwire.contrib.django.worker:app
"""

import django

django.setup()

from . import app  # noqa: E402

__all__ = ["app"]

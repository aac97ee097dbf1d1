"""Settings of a site whose orders are confirmed by jobs."""

import os
from pathlib import Path

# [settings]
INSTALLED_APPS = ["jobwire.contrib.django", "orders"]
JOBWIRE = {"TIMEOUT": "10s"}  # URL: by default that of the environment, JOBWIRE_URL
# [/settings]

SECRET_KEY = "only an example"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "mysite.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", Path(__file__).parent.parent / "db.sqlite3"),
    }
}

"""What is stored."""

from django.db import models


class Order(models.Model):
    """An order; a job confirms it."""

    email = models.EmailField()
    confirmed = models.BooleanField(default=False)

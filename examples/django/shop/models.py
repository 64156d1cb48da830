"""What the project keeps of a deal."""

from django.db import models


class Deal(models.Model):
    """A deal of the portal."""

    number = models.CharField(max_length=32, unique=True)
    title = models.CharField(max_length=255)
    read_ms = models.BigIntegerField(default=0)

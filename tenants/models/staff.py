"""Our own people."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models

from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import Home


class User(AbstractUser):
    """A person who signs in to the staff console."""

    home = Home.SHARED
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

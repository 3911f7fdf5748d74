"""Our own people, and the log of their looks into tenants."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models

from chatplatform.postgres.models import SharedModel, uuid7
from chatplatform.tenancy import Home
from tenants.models.tenant import Tenant


class User(AbstractUser):
    """A person who signs in to the staff console."""

    home = Home.SHARED
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)


class StaffLook(SharedModel):
    """One look of a staff member at a tenant's conversations."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    action = models.CharField(max_length=40)
    path = models.CharField(max_length=500)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.user} at {self.tenant}"

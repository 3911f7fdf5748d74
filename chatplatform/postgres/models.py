"""The two homes of a table, as base classes. A model names its home by what it inherits from."""

from __future__ import annotations

import uuid

import uuid_utils.compat
from django.db import models

from chatplatform.tenancy import Home

ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"


def uuid7() -> uuid.UUID:
    """A new version 7 UUID: unique everywhere, and in order of creation."""
    return uuid_utils.compat.uuid7()


class HomeModel(models.Model):
    """A row with a UUID, a home, and what the role at home there may do with it."""

    home: Home
    rights = ALL_RIGHTS

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    class Meta:
        abstract = True


class SharedModel(HomeModel):
    """Lives once, in `public`: the control plane."""

    home = Home.SHARED

    class Meta:
        abstract = True


class TenantModel(HomeModel):
    """Lives in every tenant's schema: the data plane. No foreign key leads out of it."""

    home = Home.TENANT

    class Meta:
        abstract = True

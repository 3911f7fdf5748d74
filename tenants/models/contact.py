"""An end user of a tenant. Not a Django user: contacts of two tenants never meet in one table."""

from __future__ import annotations

from django.db import models

from chatplatform.postgres.models import TenantModel


class Contact(TenantModel):
    """Who chats. Anonymous visitors have no external id; the tenant's backend names the others."""

    external_id = models.CharField(max_length=200, null=True, blank=True, unique=True)
    name = models.CharField(max_length=200, blank=True, default="")
    email = models.EmailField(blank=True, default="")
    attributes = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name or self.external_id or "Visitor"

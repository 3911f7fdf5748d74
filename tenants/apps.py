from __future__ import annotations

from typing import Any
from uuid import UUID

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"

    def ready(self) -> None:
        from tenants import control, selectors
        from tenants.services import api_keys

        def tenant_changed(message: dict[str, Any]) -> None:
            selectors.forget(UUID(message["tenant_id"]))

        def key_revoked(message: dict[str, Any]) -> None:
            api_keys.forget(message["public_id"])

        control.on("tenant_changed", tenant_changed)
        control.on("key_revoked", key_revoked)

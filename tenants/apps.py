from __future__ import annotations

from typing import Any
from uuid import UUID

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_in

        from tenants import control, keyring, secrets, selectors
        from tenants.audit import watching
        from tenants.auth import staff_proof
        from tenants.services import api_keys, signing_keys, token_issuers

        def tenant_changed(message: dict[str, Any]) -> None:
            selectors.forget(UUID(message["tenant_id"]))
            token_issuers.forget(UUID(message["tenant_id"]))

        def key_changed(message: dict[str, Any]) -> None:
            api_keys.forget(message["public_id"])

        watching.watch()
        user_logged_in.connect(staff_proof.note_sign_in)
        secrets.keys_from(keyring)
        control.on("keys_dropped", keyring.dropped)
        control.on("tenant_changed", tenant_changed)

        def signing_keys_changed(message: dict[str, Any]) -> None:
            signing_keys.forget()

        control.on("key_changed", key_changed)
        control.on("signing_keys_changed", signing_keys_changed)

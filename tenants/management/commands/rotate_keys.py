"""`manage.py rotate_keys [--master] [--tenant SLUG]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from chatplatform import tenancy
from chatplatform.management.base import PlatformCommand, Result
from tenants.models import Tenant
from tenants.services import key_rotation
from tenants.services.migration import WITH_SCHEMA


class Command(PlatformCommand):
    help = (
        "Replace the keys that wrap the keys of texts, and seal what is still in the clear: of one tenant, or of all "
        "and the platform. With --master, wrap the tenants' keys under the current MASTER_KEY instead; nothing needs "
        "MASTER_OLD_KEYS then. No request fails meanwhile, and if it is broken off it goes on the next time."
    )

    def arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--master", action="store_true", help="The master key has changed")
        which.add_argument("--tenant", metavar="SLUG", help="Of this tenant only")

    def run(self, *, master: bool, tenant: str | None, **options: Any) -> Result:
        if master:
            return {"tenant_keys": key_rotation.rotate_master(self.say)}
        found = Tenant.objects.filter(status__in=WITH_SCHEMA).order_by("slug")
        chosen = [Tenant.objects.get(slug=tenant)] if tenant else list(found)
        done = {one.slug: key_rotation.rotate_tenant(one.ref, self.say) for one in chosen}
        if not tenant:
            with tenancy.in_platform():
                done["platform"] = key_rotation.rotate_tenant(None, self.say)
        return {"rotated": done}

    def as_text(self, result: Result) -> str:
        if "tenant_keys" in result:
            return f"{result['tenant_keys']} keys of tenants are wrapped under the current master key."
        return "\n".join(
            f"{name}: {done['data_keys']} data keys wrapped again, {done['texts']} texts sealed anew."
            for name, done in result["rotated"].items()
        )

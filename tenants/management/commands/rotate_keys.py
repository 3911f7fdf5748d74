"""`manage.py rotate_keys [--master] [--tenant SLUG]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from chatplatform import tenancy
from chatplatform.management.base import Error, PlatformCommand, Result
from tenants.master_keys import MasterKeyMissing
from tenants.models import Tenant
from tenants.services import key_rotation
from tenants.services.migration import WITH_SCHEMA

DONE = "Nothing needs MASTER_OLD_KEYS any more."


class Command(PlatformCommand):
    help = (
        "Replace the keys that wrap the keys of texts, and seal what is still in the clear: of one tenant, or of all "
        "and the platform. With --master, of those alone whose keys another MASTER_KEY wraps; called again after a "
        "quarter of an hour, it removes the old ones, and nothing needs MASTER_OLD_KEYS then. No request fails "
        "meanwhile, and if it is broken off it goes on the next time."
    )

    def arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--master", action="store_true", help="The master key has changed")
        which.add_argument("--tenant", metavar="SLUG", help="Of this tenant only")

    def run(self, *, master: bool, tenant: str | None, **options: Any) -> Result:
        if master:
            try:
                return dict(key_rotation.rotate_master(self.say))
            except MasterKeyMissing as error:
                raise Error(f"{error} Put it into MASTER_OLD_KEYS.") from error
        found = Tenant.objects.filter(status__in=WITH_SCHEMA).order_by("slug")
        chosen = [Tenant.objects.get(slug=tenant)] if tenant else list(found)
        done = {one.slug: key_rotation.rotate_tenant(one.ref, self.say) for one in chosen}
        if not tenant:
            with tenancy.in_platform():
                done["platform"] = key_rotation.rotate_tenant(None, self.say)
        return {"rotated": done}

    def as_text(self, result: Result) -> str:
        if "tenant_keys" in result:
            left = result["left"]
            then = f"{left} old ones stay for a quarter of an hour: call this again then." if left else DONE
            return f"{result['tenant_keys']} keys were replaced by new ones under this master key. {then}"
        return "\n".join(
            f"{name}: {done['data_keys']} data keys wrapped again, {done['texts']} texts sealed anew."
            for name, done in result["rotated"].items()
        )

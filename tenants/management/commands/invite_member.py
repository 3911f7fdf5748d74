"""`manage.py invite_member SLUG EMAIL [--role owner]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import PlatformCommand, Result
from tenants.models import Membership, Tenant
from tenants.services import member_links, members
from tenants.services.member_links import LIFETIMES, Link
from tenants.vocabulary import MemberRole


class Command(PlatformCommand):
    help = "Invite somebody to a tenant's console: mails a link, and prints it. Whoever has the link is the member."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="The tenant")
        parser.add_argument("email", metavar="EMAIL", help="Who is invited")
        parser.add_argument(
            "--role",
            choices=MemberRole.values,
            default=MemberRole.OWNER,
            help="What they may do (default: owner)",
        )

    def run(self, *, slug: str, email: str, role: str, **options: Any) -> Result:
        membership = members.invite(Tenant.objects.get(slug=slug).ref, email, role, by="")
        membership = Membership.objects.select_related("user", "tenant").get(pk=membership.pk)
        return {
            "tenant": slug,
            "email": membership.email,
            "role": membership.role,
            "url": member_links.url(Link.JOIN, membership),
            "expires_at": (membership.invited_at + LIFETIMES[Link.JOIN]).isoformat(),
        }

"""The mails that members get."""

from __future__ import annotations

from uuid import UUID

from django.core.mail import send_mail

from chatplatform import tenancy
from tenants.models import Membership
from tenants.services import member_links
from tenants.services.member_links import FOR, Link
from tenants.vocabulary import MemberRole

JOIN = """{by} invites you to the console of {tenant}, as {role}.

Choose a password here; the link is good for seven days, and once:

{url}

If you did not expect this, ignore it: nothing happens.
"""
RESET = """Somebody, probably you, asked for another password for the console of {tenant}.

Choose one here; the link is good for an hour, and once:

{url}

If it was not you, ignore this: your password stays as it is.
"""
SUBJECTS = {Link.JOIN: "Your invitation to {tenant}", Link.RESET: "Another password for {tenant}"}
TEXTS = {Link.JOIN: JOIN, Link.RESET: RESET}


def send_link(kind: Link, membership_id: UUID) -> bool:
    """Mail a member the link, unless they need it no more. Raises OSError, SMTPException if it cannot be sent."""
    with tenancy.in_platform():
        found = Membership.objects.select_related("tenant", "user").filter(pk=membership_id)
        membership = found.first()
    if membership is None or membership.state is not FOR[kind]:
        return False
    words = {
        "tenant": membership.tenant.name,
        "role": MemberRole(membership.role).label.lower(),
        "by": membership.invited_by or "Somebody",
        "url": member_links.url(kind, membership),
    }
    send_mail(SUBJECTS[kind].format(**words), TEXTS[kind].format(**words), None, [membership.email])
    return True

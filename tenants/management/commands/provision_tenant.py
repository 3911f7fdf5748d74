"""`manage.py provision_tenant SLUG`: a tenant from nothing to active, in this process."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandParser

from chatplatform.api.problem import Problem
from chatplatform.management.base import PlatformCommand, Result
from tenants.selectors import page_url
from tenants.services import domains, provisioning
from tenants.vocabulary import Tier


def host_name(text: str) -> str:
    """A host name that a tenant may have."""
    try:
        return domains.checked(text.lower())
    except Problem as problem:
        raise ArgumentTypeError(f"{text!r}: {problem.detail}") from problem


class Command(PlatformCommand):
    help = (
        "Make a tenant: its schema, role, configuration and first API key (scope chat), which is shown once."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="Short name: lower-case letters, digits and hyphens")
        parser.add_argument(
            "--name", metavar="N", help="Name that visitors see (default: made from the slug)"
        )
        parser.add_argument(
            "--tier", metavar="T", choices=Tier.values, default=Tier.FREE, help=", ".join(Tier.values)
        )
        parser.add_argument(
            "--domain",
            metavar="D",
            dest="hosts",
            action="append",
            default=[],
            type=host_name,
            help="Host name of the tenant's own; may be repeated",
        )

    def run(self, *, slug: str, name: str | None, tier: str, hosts: list[str], **options: Any) -> Result:
        shown_name = name or slug.replace("-", " ").title()
        tenant, _, key = provisioning.request_tenant(shown_name, slug, tier=tier, domains=hosts)
        tenant = provisioning.provision(tenant.id)
        return {
            "tenant": tenant.slug,
            "status": str(tenant.status),
            "url": page_url(tenant.slug),
            "api_key": key,
        }

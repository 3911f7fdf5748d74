"""`manage.py rotate_signing_keys [--compromised]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import PlatformCommand, Result
from tenants.services import signing_keys


class Command(PlatformCommand):
    help = (
        "Let the next key sign the platform's tokens, publish another one, and retire what is over. Run it by cron, "
        "monthly say. No token breaks, and doing it again changes nothing before the next key is known everywhere."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--compromised",
            action="store_true",
            help="A key is in wrong hands: whatever was signed so far is worth nothing from now on",
        )

    def run(self, *, compromised: bool, **options: Any) -> Result:
        done = signing_keys.rotate(compromised=compromised)
        return {
            "did": done.did,
            "current": done.current,
            "next": done.next,
            "next_may_sign_at": done.next_may_sign_at.isoformat(),
            "previous": done.previous,
        }

    def as_text(self, result: Result) -> str:
        did = [f"{one[0].upper()}{one[1:]}." for one in result["did"]] or ["Nothing was due."]
        return "\n".join([*did, f"{result['next']} may sign from {result['next_may_sign_at']} on."])

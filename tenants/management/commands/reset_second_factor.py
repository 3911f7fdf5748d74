"""`manage.py reset_second_factor USERNAME`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import Error, PlatformCommand, Result
from tenants.models import User
from tenants.services import second_factors


class Command(PlatformCommand):
    help = (
        "Take all second factors from one of staff who has lost them: the password alone lets them in again."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", metavar="USERNAME", help="An account of staff")

    def run(self, *, username: str, **options: Any) -> Result:
        user = User.objects.filter(username=username, membership=None).first()
        if user is None:
            raise Error(f"There is no account of staff named {username}.")
        second_factors.reset(second_factors.of_staff(user))
        return {"username": username}

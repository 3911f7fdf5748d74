"""`manage.py check_isolation`: can anybody see what is another tenant's?"""

from __future__ import annotations

from typing import Any

from chatplatform.management.base import PlatformCommand, Result
from chatplatform.management.isolation.check import Check


class Command(PlatformCommand):
    help = (
        "Make two tenants, plant words in them that are nowhere else, and try every route, socket, task, command and "
        "search with the one's credentials and the other's identifiers. Removes both, and keeps the report."
    )

    def run(self, **options: Any) -> Result:
        return Check(self.say).run()

    def as_text(self, result: Result) -> str:
        walked = ", ".join(
            f"{one['walked']} of {one['found']} {kind}" for kind, one in result["walked"].items()
        )
        lines = [f"Walked {walked}, with {result['requests']} requests, in {result['seconds']} s."]
        lines += [f"Not run here: {name}. {why}" for name, why in result["elsewhere"].items()]
        lines += [f"WRONG  {one['where']}: {one['what']}" for one in result["findings"]]
        return "\n".join(lines)

    def failure(self, result: Result) -> str | None:
        return None if result["ok"] else f"{len(result['findings'])} findings"

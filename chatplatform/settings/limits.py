"""The limits of the tiers, out of one line of text."""

from __future__ import annotations

import re

from django.core.exceptions import ImproperlyConfigured

TierLimits = tuple[int | None, int | None, int | None]
TIER = re.compile(r"(free|pro|enterprise|custom)=(\d+|-)/(\d+|-)/(\d+|-)")


def tier_limits(text: str) -> dict[str, TierLimits]:
    """`free=60/20000/10 pro=600/-/30` as requests, tokens and requests of one user in a minute; `-` is no limit.

    Raises ImproperlyConfigured.
    """
    found: dict[str, TierLimits] = {}
    for part in text.split():
        if not (match := TIER.fullmatch(part)):
            raise ImproperlyConfigured(
                f"TIER_LIMITS: {part!r} is not a tier and its limits, like free=60/20000/10"
            )
        requests, tokens, user_requests = (
            None if number == "-" else int(number) for number in match.groups()[1:]
        )
        found[match[1]] = (requests, tokens, user_requests)
    return found

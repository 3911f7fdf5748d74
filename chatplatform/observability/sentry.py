"""Error reports to Sentry, if SENTRY_DSN is set. What people wrote never leaves: no bodies, no local variables."""

from __future__ import annotations

import sentry_sdk
from django.conf import settings


def start() -> None:
    """Begin to report errors; without a DSN nothing happens."""
    if not settings.SENTRY_DSN:
        return
    sentry_sdk.init(
        dsn=settings.SENTRY_DSN,
        environment=settings.ENVIRONMENT,
        send_default_pii=False,
        max_request_body_size="never",
        include_local_variables=False,  # prompts and keys stand in them
        max_breadcrumbs=20,
    )

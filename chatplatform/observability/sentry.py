"""Error reports to Sentry, if SENTRY_DSN is set. What people wrote never leaves: no bodies, no local variables, and not
what an error says, which may quote somebody (SENTRY_ERROR_TEXTS).
"""

from __future__ import annotations

from typing import Any

import sentry_sdk
from django.conf import settings

from chatplatform.observability.secrets import first_line, hidden_in


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
        before_send=cleaned,
        before_breadcrumb=shortened,
    )


def cleaned(event: Any, hint: Any) -> Any:
    """A report without what a request carries beyond its method and path, and without secrets."""
    request = event.get("request", {})
    event["request"] = {name: request[name] for name in ("method", "url") if name in request}
    event.pop("extra", None)
    if "logentry" in event:
        said = _named(hint) or str(event["logentry"].get("message", ""))
        event["logentry"] = {"message": first_line(said)}
    for exception in event.get("exception", {}).get("values", ()):
        said = first_line(str(exception.get("value", "")))
        exception["value"] = said if settings.SENTRY_ERROR_TEXTS else ""
    return hidden_in(event)


def shortened(crumb: Any, hint: Any) -> Any:
    """Of what was logged before, the names of our own events: others' words may have anything in them."""
    return {**crumb, "message": _named(hint), "data": {}}


def _named(hint: Any) -> str:
    """The name of an event of ours, whose other fields (a traceback, say) are left out."""
    said = getattr((hint or {}).get("log_record"), "msg", None)
    return str(said.get("event", "")) if isinstance(said, dict) else ""

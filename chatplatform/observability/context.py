"""What every log line carries: the request and the tenant, from context variables that follow the work."""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("chatplatform_request_id", default=None)

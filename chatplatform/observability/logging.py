"""Structured logs: one JSON object a line, with request and tenant ids and never a message's text.

structlog renders both its own events and the standard library's; what a library logs is not trusted with
arguments beyond its own message.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import structlog

from chatplatform import tenancy
from chatplatform.observability.context import request_id
from chatplatform.observability.secrets import first_line, hidden

NOISY = (
    # What is said of every request, frame and job: our own lines say it once.
    "daphne.http_protocol",
    "daphne.ws_protocol",
    "django.channels.server",
    "httpx2",
    "openai",
    "anthropic",
    # Every periodic job, three times each few seconds.
    "celery.beat",
    "celery.worker.strategy",
    "celery.app.trace",
)


def add_context(logger: Any, name: str, event: dict[str, Any]) -> dict[str, Any]:
    """Puts the request's id and the tenant's slug on an event."""
    if (request := request_id.get()) is not None:
        event.setdefault("request_id", request)
    scope = tenancy.scope_or_none()
    if scope and scope.tenant:
        event.setdefault("tenant", scope.tenant.slug)
    return event


def told(exc_info: tuple[Any, BaseException | None, Any]) -> str:
    """A traceback, with the first line of what each error says."""
    error = exc_info[1]
    parts: list[str] = []
    while error is not None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        kind = type(error)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        parts.append(f"{frames}{name}: {first_line(str(error))}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nand then\n\n".join(reversed(parts))


def hide_secrets(logger: Any, name: str, line: Any) -> str:
    """The last of all, whatever the line was made of."""
    return hidden(line)


def configure(config: dict[str, str]) -> None:
    """Django's LOGGING_CONFIG: `level` (a level's name) and `format` (`json` or `console`)."""
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_context,
        structlog.processors.ExceptionRenderer(told),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if config["format"] == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        # First of all, so that what is not logged costs nothing.
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, hide_secrets],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config["level"])
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)

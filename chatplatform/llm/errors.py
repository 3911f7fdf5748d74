"""What can go wrong with a model, in one vocabulary for all providers.

The text of an error is ours: it names provider, model, status and the provider's error code, never the
provider's own message, because that may repeat the prompt or the API key.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class ErrorKind(StrEnum):
    """The closed list of error classes, for metrics and attempt records."""

    PROVIDER_ERROR = "provider_error"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    BAD_REQUEST = "bad_request"
    CONTENT_FILTERED = "content_filtered"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    CONNECTION_LOST = "connection_lost"
    MALFORMED_RESPONSE = "malformed_response"
    AUTHENTICATION_FAILED = "authentication_failed"
    NOT_CONFIGURED = "not_configured"
    CIRCUIT_OPEN = "circuit_open"
    NO_PLACE = "no_place"
    OVER_BUDGET = "over_budget"
    NOT_USABLE = "not_usable"


class ModelUnknown(ValueError):
    """A model name that no provider recognises."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"unknown model {self.name[:80]!r}"


class ProviderError(Exception):
    """A call to a provider failed.

    ``retryable`` says whether the same call may succeed later, ``retry_after`` (seconds) when the provider
    asked for a pause, ``status`` is the HTTP status where there was one.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.PROVIDER_ERROR
    retryable_by_default: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        provider: str = "",
        model: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.provider = provider
        self.model = model
        self.status = status
        self.retry_after = retry_after
        self.retryable = self.retryable_by_default if retryable is None else retryable

    def __str__(self) -> str:
        text = f"{self.provider}/{self.model}: {self.kind.value}"
        if self.status is not None:
            text += f" (HTTP {self.status})"
        return f"{text}: {self.detail}" if self.detail else text


class RateLimited(ProviderError):
    """HTTP 429. Not retryable when a quota is used up rather than a rate exceeded."""

    kind = ErrorKind.RATE_LIMITED
    retryable_by_default = True


class Overloaded(ProviderError):
    """The provider has no capacity: 503, 529, or ``overloaded_error`` inside a 200."""

    kind = ErrorKind.OVERLOADED
    retryable_by_default = True


class ServerError(ProviderError):
    """Any other 5xx, or an error event in a stream."""

    kind = ErrorKind.SERVER_ERROR
    retryable_by_default = True


class BadRequest(ProviderError):
    """The provider refused the request itself; sending it again does not help."""

    kind = ErrorKind.BAD_REQUEST


class ContentFiltered(ProviderError):
    """The provider's content policy refused the prompt. An answer cut by it is a finish reason instead."""

    kind = ErrorKind.CONTENT_FILTERED


class ProviderTimeout(ProviderError):
    """A deadline passed; ``phase`` is ``connect``, ``first_token``, ``inter_token`` or ``total``.

    It is empty where the deadline was not ours: the provider said that it timed out.
    """

    kind = ErrorKind.TIMEOUT
    retryable_by_default = True
    phase: str = ""


class Truncated(ProviderError):
    """The body ended cleanly but without its terminal marker: the text is a fragment."""

    kind = ErrorKind.TRUNCATED
    retryable_by_default = True


class ConnectionLost(ProviderError):
    """No connection, or it broke before the answer was complete. ``sent`` is False where there never was one."""

    kind = ErrorKind.CONNECTION_LOST
    retryable_by_default = True
    sent: bool = True


class MalformedResponse(ProviderError):
    """The provider answered something that is not its protocol."""

    kind = ErrorKind.MALFORMED_RESPONSE
    retryable_by_default = True


class AuthenticationFailed(ProviderError):
    """The key was refused (401, 403)."""

    kind = ErrorKind.AUTHENTICATION_FAILED


class NotConfigured(ProviderError):
    """The model's provider has neither key nor endpoint here."""

    kind = ErrorKind.NOT_CONFIGURED


class CircuitOpen(ProviderError):
    """Not asked: the model has failed too often lately. ``retry_after`` is when it may be tried again."""

    kind = ErrorKind.CIRCUIT_OPEN


class NoPlace(ProviderError):
    """Not asked: too many calls to the provider were under way for too long."""

    kind = ErrorKind.NO_PLACE


class OverBudget(ProviderError):
    """Not asked: the budget has no room for what the call might cost."""

    kind = ErrorKind.OVER_BUDGET


class NotUsable(ProviderError):
    """Not asked: the tenant may not use the model, or it has no price. ``detail`` says which."""

    kind = ErrorKind.NOT_USABLE

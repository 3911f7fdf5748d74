"""What drf-spectacular cannot find out by itself: what a call does and needs, its errors, how callers authenticate."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers

from chatplatform.api import problem

# What any call may answer, and what those with a body may answer besides.
ERRORS = (400, 401, 403, 404, 406, 422, 429, 500, 503)
OF_BODIES = (409, 413, 415)


class FieldError(serializers.Serializer[Any]):
    field = serializers.CharField()
    message = serializers.CharField()


class ProblemShape(serializers.Serializer[Any]):
    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.ChoiceField(choices=[(str(code), code.meaning) for code in problem.Code])
    request_id = serializers.CharField()
    errors: Any = FieldError(many=True, required=False)


class Operation(AutoSchema):
    """A call: its handler's docstring says what it does, its view what it needs."""

    view: Any

    def get_summary(self) -> str:
        return str(getattr(self.view, self.method.lower()).__doc__ or "").rstrip(".")

    def get_description(self) -> str:  # type: ignore[override]
        needs = [f"For API keys with the scope `{self.view.required_scope}`"]
        if getattr(self.view, "for_contacts", False):
            needs.append(", and for end users: with a token, or a cookie of the tenant's own pages")
        needs.append(".")
        if self.method == "POST" and getattr(self.view, "idempotent", True):
            needs.append(" `Idempotency-Key` is honoured.")
        return "".join(needs)

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        """What the handler says, and every error by its status, as a problem document (RFC 9457)."""
        shape = self.resolve_serializer(ProblemShape, direction).ref
        found = super()._get_response_bodies(direction)
        statuses = {*ERRORS, *self.view.more_errors.get(self.method, ())}
        if self.method in ("POST", "PATCH"):
            statuses |= {*OF_BODIES}
        for status in sorted(statuses):
            codes = ", ".join(f"`{code}`" for code in problem.Code if code.status == status)
            found[str(status)] = {"description": codes, "content": {problem.CONTENT_TYPE: {"schema": shape}}}
        return found


class Bearer(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "tenants.auth.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, `cp_…`, or an end user's token (JWT)",
        }


class Visitor(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "tenants.auth.authentication.VisitorAuthentication"
    name = "visitor"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": settings.VISITOR_COOKIE_NAME}

"""What a principal may do."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from chatplatform.api.problem import Code, Problem
from tenants.auth.principal import Principal


class HasScope(BasePermission):
    """The view's `required_scope` must be among the credential's, and it must be `for_contacts` to let end users in."""

    def has_permission(self, request: Request, view: Any) -> bool:
        principal: Any = request.user
        if not isinstance(principal, Principal):
            raise Problem(Code.NOT_AUTHENTICATED, headers={"WWW-Authenticate": "Bearer"})
        if principal.contact_id is not None and not view.for_contacts:
            raise Problem(Code.NOT_ALLOWED, "This is not for end users.")
        if not principal.allows(view.required_scope):
            raise Problem(Code.NOT_ALLOWED, f"This needs the scope {str(view.required_scope)!r}.")
        return True

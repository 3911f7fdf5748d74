"""A tenant's usage over REST."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from chatplatform import tenancy
from conversations.services import usage
from tenants import selectors
from tenants.api import serializers
from tenants.api.views import OneTenant
from tenants.vocabulary import Scope


class Usage(OneTenant):
    required_scope = Scope.BILLING_READ

    @extend_schema(operation_id="get_usage", responses=serializers.UsageShape)
    def get(self, request: Request, slug: str) -> Response:
        """Show what was used this month, beside the budgets."""
        state = selectors.state(self.named(slug).id)
        with tenancy.in_tenant(state.ref):
            return Response(usage.of_month(state))

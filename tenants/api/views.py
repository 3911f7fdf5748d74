"""Tenants over REST: birth, status, configuration, usage."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from chatplatform.api.problem import Code, Problem
from tenants.api import serializers
from tenants.api.base import ApiView
from tenants.models import Tenant
from tenants.selectors import page_url
from tenants.services import births, configuration, provisioning
from tenants.vocabulary import Scope


def tenant_as_json(tenant: Tenant) -> dict[str, Any]:
    """The public shape of a tenant."""
    status = "provisioning" if tenant.status in serializers.PROVISIONING else str(tenant.status)
    return {
        "id": str(tenant.id),
        "slug": tenant.slug,
        "name": tenant.name,
        "tier": tenant.tier,
        "status": status,
        "url": page_url(tenant.slug),
        "created_at": tenant.created_at.isoformat().replace("+00:00", "Z"),
    }


class Tenants(ApiView):
    required_scope = Scope.PLATFORM
    platform_wide = True

    @extend_schema(
        operation_id="create_tenant", request=serializers.NewTenant, responses={201: serializers.TenantShape}
    )
    def post(self, request: Request) -> Response:
        """Make a tenant, with its first API key, which is shown once and works as soon as the tenant is active."""
        wanted = serializers.NewTenant(data=request.data)
        wanted.is_valid(raise_exception=True)
        values = wanted.validated_data
        chosen: dict[str, Any] = dict(values.get("rate_limits") or {})
        models = values.get("model_preferences") or {}
        if "primary" in models:
            chosen["primary_model"] = models["primary"]
        if models.get("fallback"):
            chosen["fallback_model"] = models["fallback"]
        tenant, _, key = provisioning.request_tenant(
            values["name"], values.get("slug"), tier=values["tier"], configuration=chosen
        )
        births.start(tenant)
        return Response({**tenant_as_json(tenant), "api_key": key}, status=201)


class TenantView(ApiView):
    """About the tenant of the path, for its own keys and for staff's."""

    platform_wide = True

    def named(self, slug: str) -> Tenant:
        """The tenant of the path, if it is the caller's own or the caller is staff. Raises Problem `not_found`."""
        own = self.principal.tenant
        if not self.principal.platform and (own is None or own.ref.slug != slug):
            raise Problem(Code.NOT_FOUND, "There is no such tenant.")
        tenant = Tenant.objects.filter(slug=slug).first()
        if tenant is None:
            raise Problem(Code.NOT_FOUND, "There is no such tenant.")
        return tenant


class OneTenant(TenantView):
    """A tenant's own key, or staff's, sees how a tenant is."""

    required_scope = Scope.CHAT

    @extend_schema(operation_id="get_tenant", responses=serializers.TenantShape)
    def get(self, request: Request, slug: str) -> Response:
        """Show a tenant and its status."""
        return Response(tenant_as_json(self.named(slug)))


class Configuration(TenantView):
    required_scope = Scope.CONFIG

    @extend_schema(operation_id="get_configuration", responses=serializers.Configuration)
    def get(self, request: Request, slug: str) -> Response:
        """Show the configuration that is in force."""
        version = configuration.current(self.named(slug).ref)
        return Response(serializers.configuration_as_json(version))

    @extend_schema(
        operation_id="change_configuration",
        request=serializers.Configuration,
        responses=serializers.Configuration,
    )
    def patch(self, request: Request, slug: str) -> Response:
        """Change some fields: a new version, in force everywhere within 5 seconds."""
        tenant = self.named(slug)
        changes = serializers.Configuration(data=request.data, partial=True)
        changes.is_valid(raise_exception=True)
        if unknown := set(request.data) - set(changes.fields) - {"version"}:
            raise Problem(
                Code.INVALID_REQUEST,
                "There is no such field.",
                errors=[{"field": name, "message": "There is no such field."} for name in sorted(unknown)],
            )
        version = configuration.change(
            tenant.ref,
            changes.validated_data,
            author=self.principal.credential,
            by_staff=self.principal.platform,
        )
        return Response(serializers.configuration_as_json(version))

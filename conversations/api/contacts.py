"""A tenant's end users over REST."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from chatplatform import tenancy
from conversations.services import erasure
from tenants.api.views import TenantView
from tenants.vocabulary import Scope


class Certificate(serializers.Serializer[object]):
    """What was erased, signed. Kept in the audit log, too."""

    certificate = serializers.CharField()
    tenant = serializers.UUIDField()
    contact = serializers.UUIDField()
    external_id = serializers.DictField(help_text="A keyed digest, to compare with")
    removed = serializers.DictField(child=serializers.IntegerField())
    key_destroyed = serializers.BooleanField()
    kept = serializers.ListField(child=serializers.CharField())
    erased_at = serializers.DateTimeField()
    key = serializers.CharField()
    signature = serializers.CharField()


class OneContact(TenantView):
    """An end user, by the tenant's own id or by ours."""

    required_scope = Scope.CONFIG

    @extend_schema(operation_id="erase_contact", responses={200: Certificate})
    def delete(self, request: Request, slug: str, contact: str) -> Response:
        """Forget an end user: what was said, what was made of it, and the key."""
        with tenancy.in_tenant(self.named(slug).ref):
            return Response(erasure.erase_contact(erasure.access_contact(contact)))

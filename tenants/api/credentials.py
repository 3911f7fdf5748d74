"""Credentials over REST: tokens for end users, who else may sign them, and the tenant's API keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from chatplatform.api.fields import Line, Text, Whole
from chatplatform.api.problem import Code, Problem, invalid
from tenants.api.base import ApiView
from tenants.api.serializers import EndUser
from tenants.api.views import TenantView
from tenants.models import ApiKey, TokenIssuer
from tenants.services import api_keys, token_issuers, tokens
from tenants.services.contacts import contact_for
from tenants.vocabulary import Scope

LONGEST_OVERLAP = 30 * 24 * 3600  # s


class NewToken(serializers.Serializer[Any]):
    end_user = EndUser()
    scope = Line(default=str(Scope.CHAT), max_length=100, help_text="`chat`: an end user can have no other")
    expires_in = Whole(
        default=tokens.USUAL, min_value=tokens.SHORTEST, max_value=tokens.LONGEST, help_text="Seconds"
    )


class TokenShape(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="A JWT; shown once")
    token_type = serializers.ChoiceField(choices=["Bearer"])
    expires_in = serializers.IntegerField()
    scope = serializers.CharField()


class NewTokenIssuer(serializers.Serializer[Any]):
    name = Line(max_length=100)
    issuer = Line(max_length=300, help_text="The `iss` of its tokens")
    jwks_url = Line(max_length=500, required=False, allow_null=True, help_text="Where its JWKS document is")
    public_key = Text(
        max_length=50_000,
        required=False,
        allow_null=True,
        help_text="Instead: PEM, a JWK, or a JWKS document",
    )


class TokenIssuerShape(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    issuer = serializers.CharField()
    jwks_url = serializers.CharField(allow_null=True)
    public_keys = serializers.ListField(child=serializers.DictField())
    created_at = serializers.DateTimeField()


class TokenIssuerList(serializers.Serializer[Any]):
    results = TokenIssuerShape(many=True)


class ApiKeyShape(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class ApiKeyList(serializers.Serializer[Any]):
    results = ApiKeyShape(many=True)


class RotatedKeyShape(ApiKeyShape):
    api_key = serializers.CharField(help_text="The new key; shown once")
    replaces = ApiKeyShape(help_text="The old key, and when it ends")


class Overlap(serializers.Serializer[Any]):
    overlap = Whole(
        default=24 * 3600, min_value=0, max_value=LONGEST_OVERLAP, help_text="Seconds the old key goes on for"
    )


class Tokens(ApiView):
    """A backend's API key for its end user's token, so that the key itself never reaches a browser."""

    required_scope = Scope.CHAT
    idempotent = False  # nothing that could be used is kept, so there is no answer to repeat

    @extend_schema(
        operation_id="issue_token",
        request=NewToken,
        responses={201: TokenShape},
        examples=[
            OpenApiExample("For an hour", value={"end_user": {"external_id": "u-1042"}}, request_only=True)
        ],
    )
    def post(self, request: Request) -> Response:
        """Make a token for one end user's browser or app; it is shown once."""
        wanted = NewToken(data=request.data)
        wanted.is_valid(raise_exception=True)
        values = wanted.validated_data
        if set(values["scope"].split()) != {Scope.CHAT}:
            raise invalid("scope", "A token for an end user has the scope 'chat' and no other.")
        tenant = self.principal.tenant
        assert tenant is not None, "the view runs inside a tenant"
        token = tokens.issue(
            tenant,
            contact_for(**values["end_user"]),
            by=self.principal.credential.removeprefix("key:"),
            lifetime=values["expires_in"],
        )
        answer = {"token": token, "token_type": "Bearer", "expires_in": values["expires_in"]}
        return Response(
            {**answer, "scope": values["scope"]}, status=201, headers={"Cache-Control": "no-store"}
        )


class TokenIssuers(TenantView):
    required_scope = Scope.CONFIG

    @extend_schema(operation_id="list_token_issuers", responses=TokenIssuerList)
    def get(self, request: Request, slug: str) -> Response:
        """List whose tokens for end users are taken."""
        rows = TokenIssuer.objects.filter(tenant=self.named(slug))
        return Response({"results": [issuer_as_json(row) for row in rows]})

    @extend_schema(
        operation_id="register_token_issuer", request=NewTokenIssuer, responses={201: TokenIssuerShape}
    )
    def post(self, request: Request, slug: str) -> Response:
        """Take the tokens of a backend, by its public key or by where it publishes its keys."""
        tenant = self.named(slug)
        wanted = NewTokenIssuer(data=request.data)
        wanted.is_valid(raise_exception=True)
        values = {name: value for name, value in wanted.validated_data.items() if value is not None}
        return Response(issuer_as_json(token_issuers.register(tenant.ref, **values)), status=201)


class OneTokenIssuer(TenantView):
    required_scope = Scope.CONFIG

    @extend_schema(operation_id="get_token_issuer", responses=TokenIssuerShape)
    def get(self, request: Request, slug: str, issuer_id: UUID) -> Response:
        """Show one of them, with its keys."""
        row = TokenIssuer.objects.filter(tenant=self.named(slug), id=issuer_id).first()
        if row is None:
            raise Problem(Code.NOT_FOUND, "There is no such issuer.")
        return Response(issuer_as_json(row))

    @extend_schema(operation_id="remove_token_issuer", responses={204: None})
    def delete(self, request: Request, slug: str, issuer_id: UUID) -> Response:
        """Take its tokens no more: those that are about, too."""
        try:
            token_issuers.remove(self.named(slug).ref, issuer_id)
        except TokenIssuer.DoesNotExist as error:
            raise Problem(Code.NOT_FOUND, "There is no such issuer.") from error
        return Response(status=204)


class ApiKeys(TenantView):
    required_scope = Scope.CONFIG

    @extend_schema(operation_id="list_api_keys", responses=ApiKeyList)
    def get(self, request: Request, slug: str) -> Response:
        """List the API keys; none of them can be read out of it."""
        rows = ApiKey.objects.filter(tenant=self.named(slug))
        return Response({"results": [key_as_json(row) for row in rows]})


class KeyView(TenantView):
    """About one key of the tenant of the path."""

    required_scope = Scope.CONFIG

    def key(self, slug: str, key_id: str) -> ApiKey:
        """The key. Raises Problem `not_found`."""
        row = ApiKey.objects.filter(tenant=self.named(slug), public_id=key_id).first()
        if row is None:
            raise Problem(Code.NOT_FOUND, "There is no such key.")
        return row


class OneApiKey(KeyView):
    @extend_schema(operation_id="get_api_key", responses=ApiKeyShape)
    def get(self, request: Request, slug: str, key_id: str) -> Response:
        """Show an API key, and when it was last used."""
        return Response(key_as_json(self.key(slug, key_id)))

    @extend_schema(operation_id="revoke_api_key", responses={204: None})
    def delete(self, request: Request, slug: str, key_id: str) -> Response:
        """Revoke an API key, and the tokens that it has asked for."""
        api_keys.revoke(self.key(slug, key_id).public_id)
        return Response(status=204)


class RotateApiKey(KeyView):
    @extend_schema(operation_id="rotate_api_key", request=Overlap, responses={201: RotatedKeyShape})
    def post(self, request: Request, slug: str, key_id: str) -> Response:
        """Make a new API key like this one, which goes on for `overlap` seconds. The new one is shown once."""
        wanted = Overlap(data=request.data)
        wanted.is_valid(raise_exception=True)
        key = self.key(slug, key_id)
        if not all(self.principal.allows(scope) for scope in key.scopes):
            # Or a key could have itself made a stronger one.
            raise Problem(Code.NOT_ALLOWED, "This key may do more than the one that asks.")
        old, new, shown = api_keys.rotate(key.public_id, timedelta(seconds=wanted.validated_data["overlap"]))
        return Response({**key_as_json(new), "api_key": shown, "replaces": key_as_json(old)}, status=201)


def issuer_as_json(row: TokenIssuer) -> dict[str, Any]:
    """The public shape of an issuer."""
    return {
        "id": str(row.id),
        "name": row.name,
        "issuer": row.issuer,
        "jwks_url": row.jwks_url or None,
        "public_keys": row.public_keys,
        "created_at": _time(row.created_at),
    }


def key_as_json(row: ApiKey) -> dict[str, Any]:
    """The public shape of a key, of which nothing can be made that is a key."""
    times = ("created_at", "expires_at", "last_used_at", "revoked_at")
    shown = {name: _time(getattr(row, name)) for name in times}
    return {"id": row.public_id, "name": row.name, "scopes": row.scopes, **shown}


def _time(time: datetime | None) -> str | None:
    return time.isoformat().replace("+00:00", "Z") if time else None

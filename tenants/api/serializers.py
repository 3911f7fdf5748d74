"""What requests about tenants may hold (CONTRACT §5)."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from chatplatform.api.fields import Flag, Line, Names, Number, Object, Text, Whole
from tenants.models import ConfigurationVersion
from tenants.models.configuration import FIELDS
from tenants.vocabulary import TenantStatus, Tier

LARGEST_COUNT = 2**62


class RateLimits(serializers.Serializer[Any]):
    requests_per_minute = Whole(required=False, allow_null=True, min_value=0, max_value=LARGEST_COUNT)
    tokens_per_minute = Whole(required=False, allow_null=True, min_value=0, max_value=LARGEST_COUNT)


class ModelPreferences(serializers.Serializer[Any]):
    primary = Line(required=False, max_length=200)
    fallback = Names(required=False, allow_null=True)


class NewTenant(serializers.Serializer[Any]):
    name = Line(max_length=200)
    slug = Line(required=False, allow_null=True, max_length=40)
    tier = serializers.ChoiceField(choices=Tier.choices, default=Tier.FREE)
    rate_limits = RateLimits(required=False, allow_null=True)
    model_preferences = ModelPreferences(required=False, allow_null=True)


class EndUser(serializers.Serializer[Any]):
    """Whom a tenant's backend means. A plain string is taken as the external id."""

    external_id = Line(max_length=200)
    name = Line(max_length=200, required=False, allow_blank=True)
    email = serializers.EmailField(required=False, allow_blank=True)
    attributes = Object(required=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value({"external_id": data} if isinstance(data, str) else data)


class TenantShape(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    tier = serializers.CharField()
    status = serializers.ChoiceField(choices=["provisioning", "active", "suspended", "failed"])
    url = serializers.CharField()
    created_at = serializers.DateTimeField()
    api_key = serializers.CharField(required=False, help_text="Shown once, in the answer to POST")


class BudgetShape(serializers.Serializer[Any]):
    limit = serializers.CharField(allow_null=True)
    spent = serializers.CharField()
    held = serializers.CharField()
    remaining = serializers.CharField(allow_null=True)


class TokenBudgetShape(serializers.Serializer[Any]):
    limit = serializers.IntegerField(allow_null=True)
    spent = serializers.IntegerField()
    held = serializers.IntegerField()
    remaining = serializers.IntegerField(allow_null=True)


class UsageShape(serializers.Serializer[Any]):
    period = serializers.CharField()
    tokens_used = serializers.IntegerField()
    api_calls = serializers.IntegerField()
    cache_hits = serializers.IntegerField()
    estimated_cost = serializers.CharField()
    rate_limit_remaining = serializers.IntegerField(allow_null=True)
    budget = BudgetShape()
    token_budget = TokenBudgetShape()


class Usd(serializers.DecimalField):
    """US dollars: a number or a decimal string; answered as a string."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=14, decimal_places=6, min_value=0, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int | float | str):
            raise serializers.ValidationError("Must be a number.")
        return super().to_internal_value(data)

    def to_representation(self, value: Any) -> Any:
        return None if value is None else f"{value.normalize():f}"


class Texts(serializers.ListField):
    child = Text(max_length=300)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=200, **kwargs)


def _count() -> Whole:
    return Whole(required=False, allow_null=True, min_value=0, max_value=LARGEST_COUNT)


class Configuration(serializers.Serializer[Any]):
    """All fields of CONTRACT §5, each optional in a change."""

    system_prompt = Text(required=False, allow_blank=True, max_length=100_000)
    greeting = Text(required=False, allow_blank=True, max_length=10_000)
    primary_model = Line(required=False, max_length=200)
    fallback_model = Names(required=False, allow_null=True)
    degrade_to_local = Flag(
        required=False, help_text="The built-in model answers, and says so, when no other can"
    )
    allowed_models = serializers.ListField(
        child=Line(max_length=200), required=False, allow_null=True, max_length=200
    )
    temperature = Number(required=False, allow_null=True, min_value=0, max_value=2)
    max_tokens_per_response = Whole(required=False, min_value=1, max_value=200_000)
    monthly_token_budget = _count()
    monthly_cost_budget_usd = Usd(required=False, allow_null=True)
    daily_cost_budget_usd = Usd(required=False, allow_null=True)
    conversation_cost_budget_usd = Usd(required=False, allow_null=True)
    user_monthly_cost_budget_usd = Usd(required=False, allow_null=True)
    requests_per_minute = _count()
    tokens_per_minute = _count()
    user_requests_per_minute = _count()
    allowed_tools = Texts(required=False)
    blocked_topics = Texts(required=False)
    escalation_email = serializers.EmailField(required=False, allow_blank=True)
    allow_anonymous = Flag(required=False)
    widget_origins = Texts(required=False)
    cache_enabled = Flag(required=False)
    semantic_cache_threshold = Number(required=False, min_value=0, max_value=1)

    def validate(self, attrs: Any) -> Any:
        if attrs.get("fallback_model", ()) is None:
            attrs["fallback_model"] = []
        return attrs


def configuration_as_json(version: ConfigurationVersion) -> dict[str, Any]:
    """The public shape of a configuration version."""
    shown: dict[str, Any] = dict(Configuration(version).data)
    return {"version": version.number, **{name: shown[name] for name in FIELDS}}


PROVISIONING = {TenantStatus.REQUESTED, TenantStatus.SCHEMA, TenantStatus.SEEDED}

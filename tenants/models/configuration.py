"""A tenant's configuration, one numbered version per change. A version never changes; replies name theirs."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from chatplatform.postgres.models import SharedModel
from tenants.models.tenant import Tenant

DEFAULT_PROMPT = (
    "You are the assistant of {tenant}. Answer from the sources you are given, briefly and kindly. "
    "If they do not hold the answer, say so."
)


def _usd() -> models.DecimalField[Decimal | None, Decimal | None]:
    return models.DecimalField(
        max_digits=14, decimal_places=6, null=True, blank=True, validators=[MinValueValidator(Decimal(0))]
    )


def _count() -> models.BigIntegerField[int | None, int | None]:
    return models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])


def _texts(**kwargs: object) -> ArrayField:  # type: ignore[type-arg]
    return ArrayField(models.CharField(max_length=300), default=list, blank=True, **kwargs)  # type: ignore[arg-type]


class ConfigurationVersion(SharedModel):
    """Everything a tenant can set (CONTRACT §5). Empty limits and budgets mean: no limit."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="configurations")
    number = models.PositiveIntegerField(editable=False)
    by_staff = models.BooleanField(
        default=True,
        editable=False,
        help_text="Set by staff: its limits are ceilings for the tenant's own changes",
    )
    author = models.CharField(max_length=200, blank=True, default="", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    system_prompt = models.TextField(blank=True, default=DEFAULT_PROMPT)
    greeting = models.TextField(blank=True, default="Hello! How can I help you?")
    primary_model = models.CharField(max_length=200, default="auto")
    fallback_model = _texts()
    degrade_to_local = models.BooleanField(
        default=False, db_default=False, help_text="The built-in model answers when no other can"
    )
    allowed_models = ArrayField(
        models.CharField(max_length=200), null=True, blank=True, help_text="Empty: every model with a price"
    )
    temperature = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0.0), MaxValueValidator(2.0)]
    )
    max_tokens_per_response = models.PositiveIntegerField(
        default=1024, validators=[MinValueValidator(1), MaxValueValidator(200_000)]
    )
    monthly_token_budget = _count()
    monthly_cost_budget_usd = _usd()
    daily_cost_budget_usd = _usd()
    conversation_cost_budget_usd = _usd()
    user_monthly_cost_budget_usd = _usd()
    requests_per_minute = _count()
    tokens_per_minute = _count()
    user_requests_per_minute = _count()
    allowed_tools = _texts()
    blocked_topics = _texts()
    escalation_email = models.EmailField(blank=True, default="")
    allow_anonymous = models.BooleanField(default=True)
    widget_origins = _texts()
    cache_enabled = models.BooleanField(default=True)
    semantic_cache_threshold = models.FloatField(
        default=0.95, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)]
    )

    class Meta:
        ordering = ["tenant", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="configuration_number_per_tenant")
        ]

    def __str__(self) -> str:
        return f"version {self.number}"


FIELDS = tuple(
    field.name
    for field in ConfigurationVersion._meta.local_fields
    if field.name not in {"id", "tenant", "number", "by_staff", "author", "created_at"}
)
LIMITS = (
    "monthly_token_budget",
    "monthly_cost_budget_usd",
    "daily_cost_budget_usd",
    "conversation_cost_budget_usd",
    "user_monthly_cost_budget_usd",
    "requests_per_minute",
    "tokens_per_minute",
    "user_requests_per_minute",
    "max_tokens_per_response",
)

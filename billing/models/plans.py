"""What a tenant has bought."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from billing.vocabulary import UsageBilling
from chatplatform.postgres.models import SharedModel
from tenants.models import Tenant
from tenants.vocabulary import Feature, Tier


def _amount(**kwargs: Any) -> models.DecimalField[Decimal, Decimal]:
    return models.DecimalField(
        max_digits=14, decimal_places=2, validators=[MinValueValidator(Decimal(0))], **kwargs
    )


def _limit() -> models.BigIntegerField[int | None, int | None]:
    return models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])


class Charges(models.Model):
    """What a tenant on a plan is invoiced."""

    monthly_fee = _amount(default=Decimal(0))
    usage_billing = models.CharField(max_length=10, choices=UsageBilling.choices, default=UsageBilling.TOKENS)
    included_tokens = models.BigIntegerField(default=0, validators=[MinValueValidator(0)])
    overage_price = models.DecimalField(
        max_digits=18,
        decimal_places=9,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text="US dollars for each further million tokens. Empty: no more than the included ones",
    )
    markup_percent = models.DecimalField(
        max_digits=7,
        decimal_places=3,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0))],
        help_text="On what the providers charge",
    )

    class Meta:
        abstract = True

    @property
    def charges(self) -> dict[str, Any]:
        """These fields with their values."""
        return {field.name: getattr(self, field.name) for field in Charges._meta.get_fields()}


class Plan(Charges, SharedModel):
    """Fee, what is included, what more costs, ceilings and features. Empty ceilings mean: none.

    A tenant without a subscription has the plan whose `code` is its tier.
    """

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=100)
    tier = models.CharField(max_length=20, choices=Tier.choices)
    requests_per_minute = _limit()
    tokens_per_minute = _limit()
    user_requests_per_minute = _limit()
    features = ArrayField(models.CharField(max_length=30, choices=Feature.choices), default=list, blank=True)
    active = models.BooleanField(default=True, help_text="Tenants can be put on it")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["monthly_fee", "code"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        by_tokens = self.usage_billing == UsageBilling.TOKENS
        if by_tokens and self.overage_price is None and not self.included_tokens:
            raise ValidationError(
                {"included_tokens": "Without a price for further tokens this plan would allow none."}
            )


class PlanVersion(Charges, SharedModel):
    """What a plan charged from a day on, until the next row of the plan begins. A plan that never changed has none."""

    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="versions")
    starts = models.DateField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["plan", "starts"]
        constraints = [
            models.UniqueConstraint(fields=["plan", "starts"], name="one_version_per_plan_and_day")
        ]

    def __str__(self) -> str:
        return f"{self.plan} from {self.starts}"


class Subscription(SharedModel):
    """A tenant's plan from a day on, until the next row of the tenant begins."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="subscriptions")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="subscriptions")
    starts = models.DateField()
    author = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["tenant", "-starts"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "starts"], name="one_plan_per_tenant_and_day")
        ]

    def __str__(self) -> str:
        return f"{self.plan} from {self.starts}"

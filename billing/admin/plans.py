"""Plans: what can be bought, and how many tenants are on each."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from billing import plans as in_force
from billing.admin.price_history import dollars
from billing.models import Plan
from billing.services import plans
from billing.vocabulary import UsageBilling
from tenants.admin.pages import column
from tenants.vocabulary import Feature


class PlanForm(forms.ModelForm):  # type: ignore[type-arg]
    """A plan, with its features as boxes to tick."""

    class Meta:
        labels: ClassVar[dict[str, str]] = {
            "monthly_fee": "Fee a month (US$)",
            "usage_billing": "Usage is charged as",
            "included_tokens": "Tokens included",
            "overage_price": "A further million tokens (US$)",
            "markup_percent": "Mark-up (%)",
            "requests_per_minute": "Messages",
            "tokens_per_minute": "Tokens",
            "user_requests_per_minute": "Messages of one end user",
            "active": "Offered",
        }
        help_texts: ClassVar[dict[str, str]] = {
            "included_tokens": "Counts where usage is charged by tokens",
            "overage_price": "Empty: no more than the included tokens",
            "tier": "Tenants on the plan get this tier",
        }

    features = forms.MultipleChoiceField(
        choices=Feature.choices, required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget()
    )


@admin.register(Plan)
class PlanAdmin(ModelAdmin):  # type: ignore[misc]
    form = PlanForm
    list_display = ("shown_name", "tier", "fee", "usage", "markup", "limits", "tenants", "shown_state")
    actions = None
    fieldsets = (
        (None, {"fields": (("name", "code"), ("tier", "active"))}),
        (
            "What it costs",
            {
                "fields": (
                    "monthly_fee",
                    "usage_billing",
                    "included_tokens",
                    "overage_price",
                    "markup_percent",
                )
            },
        ),
        (
            "What may pass in a minute; empty is no limit",
            {"fields": ("requests_per_minute", "tokens_per_minute", "user_requests_per_minute")},
        ),
        ("What it includes", {"fields": ("features",)}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> tuple[str, ...]:
        return ("code",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        self.on_plan: Counter[UUID] = in_force.tenants_on_plans()
        answer: HttpResponse = super().changelist_view(request, extra_context)
        return answer

    def save_model(self, request: HttpRequest, obj: Plan, form: Any, change: bool) -> None:
        plans.save(obj)

    @column(description="Plan", header=True, ordering="name")
    def shown_name(self, plan: Plan) -> list[str]:
        return [plan.name, plan.code]

    @column(description="Fee a month", ordering="monthly_fee")
    def fee(self, plan: Plan) -> str:
        return dollars(plan.monthly_fee)

    @column(description="Usage")
    def usage(self, plan: Plan) -> str:
        return usage_in_words(plan)

    @column(description="Mark-up", ordering="markup_percent")
    def markup(self, plan: Plan) -> str:
        return f"{plan.markup_percent.normalize():f} %"

    @column(description="A minute, at most")
    def limits(self, plan: Plan) -> str:
        return limits_in_words(plan)

    @column(description="Tenants today")
    def tenants(self, plan: Plan) -> int:
        return self.on_plan[plan.pk]

    @column(description="Offered", boolean=True, ordering="active")
    def shown_state(self, plan: Plan) -> bool:
        return plan.active


def usage_in_words(plan: Plan) -> str:
    """How usage is charged."""
    if plan.usage_billing == UsageBilling.COST:
        return "what calls cost, and the mark-up"
    more = "no more" if plan.overage_price is None else f"then {dollars(plan.overage_price)} a million"
    return f"{plan.included_tokens:,} tokens, {more}"


def limits_in_words(plan: Plan) -> str:
    """The ceilings of a plan."""
    limits = {
        "messages": plan.requests_per_minute,
        "tokens": plan.tokens_per_minute,
        "messages of a user": plan.user_requests_per_minute,
    }
    return ", ".join(f"{limit:,} {what}" for what, limit in limits.items() if limit is not None) or "no limit"

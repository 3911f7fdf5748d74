"""The console's pages about prices, plans and who is billed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing import plans, pricing
from billing.models import BillingAccount, Issuer, ModelPrice, Plan, Subscription
from chatplatform import tenancy
from chatplatform.llm.types import ModelRef
from chatplatform.testing import cast
from tenants.selectors import TenantState
from tenants.tests.console import Console, page, person

HAIKU = ModelRef("anthropic", "claude-haiku-5-5")
KINDS = ("input_price", "cached_input_price", "cache_write_price", "output_price")
PRICES = "billing/modelprice/"


@pytest.fixture
def root(acme: TenantState) -> Console:
    """A superuser."""
    return Console(person("root", superuser=True))


def price_page(name: str = "change/", model: ModelRef = HAIKU) -> str:
    return f"{PRICES}{pricing.load().price(model).id}/{name}"


def amounts(value: str, *steps: int) -> dict[str, str]:
    return {f"{kind}_{step}": value for kind in KINDS for step in steps or (0,)}


def test_the_list_has_the_prices_in_force_and_can_have_all(root: Console) -> None:
    shown = root.text(PRICES, q="claude-opus-4-6")
    assert "$25.00" in shown
    assert "$37.50" not in shown  # the long prompts of before March 2026
    assert "$37.50" in root.text(PRICES, q="claude-opus-4-6", time="all")
    assert "gpt-5.4-mini" in root.text(PRICES, provider="openai", q="5.4-mini")
    assert "gpt-5.4-mini" not in root.text(PRICES, provider="anthropic", q="5.4-mini")
    assert "claude" not in root.text(PRICES, origin="staff")


def test_a_models_page_has_its_history(root: Console) -> None:
    shown = root.text(price_page(model=ModelRef("anthropic", "claude-opus-4-6")))
    assert shown.count("In force") == 1
    assert "From 13 Mar 2026, 00:00 UTC" in shown
    assert "Prompts over 200,000 tokens" in shown


def test_an_override_shows_the_old_price_wants_a_reason_and_holds(root: Console) -> None:
    form = price_page("override/")
    assert "Now $0.50" in root.text(form)
    before = pricing.price(HAIKU)
    refused = root.post(form, **amounts("7.5", 0, 100_000))
    assert "This field is required" in refused.content.decode()
    assert pricing.load().price(HAIKU) == before
    answer = root.post(form, **amounts("7.5", 0, 100_000), reason="Contract 12")
    assert answer.status_code == 302
    after = pricing.price(HAIKU, 150_000)
    assert (after.input, after.output) == (Decimal("7.5"), Decimal("7.5"))
    assert pricing.price(ModelRef("anthropic", "claude-haiku-5-5-20261001")).id == pricing.price(HAIKU).id
    shown = root.text(price_page())
    assert "root: Contract 12" in shown
    assert "Back to the list" in shown


def test_an_override_can_begin_later_and_not_in_the_past(root: Console) -> None:
    form, now = price_page("override/"), timezone.now()
    values = {**amounts("9", 0, 100_000), "reason": "Contract 12"}
    past = root.post(form, **values, starts=f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}")
    assert "This moment is over" in past.content.decode()
    assert root.post(form, **values, starts=f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M}").status_code == 302
    assert pricing.price(HAIKU).output == Decimal("0.5")
    assert "To come" in root.text(price_page())
    assert "$9.00" in root.text(PRICES, time="to-come")
    root.post(price_page("back/"), reason="Contract 12 ended")
    shown = root.text(price_page())
    assert "Not in force" in shown
    assert "To come" not in shown


def test_the_lists_price_comes_back(root: Console) -> None:
    assert "Back to the list" not in root.text(price_page())
    root.post(price_page("override/"), **amounts("9", 0, 100_000), reason="Contract 12")
    assert root.post(price_page("back/"), reason="").status_code == 200
    assert root.post(price_page("back/"), reason="Contract 12 ended").status_code == 302
    assert pricing.price(HAIKU).output == Decimal("0.5")
    shown = root.text(price_page())
    assert "root: Contract 12 ended" in shown
    assert shown.count("In force") == 1


def test_a_model_without_a_price_gets_one(root: Console) -> None:
    values = {"provider": "openai", "model": "GPT-99*", "reason": "A preview", **amounts("2")}
    assert root.post(f"{PRICES}add/", **values).status_code == 302
    assert pricing.price(ModelRef("openai", "gpt-99-mini")).output == 2
    again = root.post(f"{PRICES}add/", **values)
    assert "It has a price already" in again.content.decode()
    negative = root.post(f"{PRICES}add/", **{**values, "model": "gpt-98", "output_price_0": "-1"})
    assert negative.status_code == 200


def test_no_price_is_ever_changed_or_deleted(root: Console) -> None:
    assert root.post(price_page("delete/"), post="yes").status_code == 403
    price = pricing.price(HAIKU)
    root.post(price_page(), output_price="77", _save="Save")
    assert pricing.load().price(HAIKU) == price


@pytest.mark.parametrize("name", ["override/", "back/"])
def test_who_may_only_see_prices_sets_none(acme: TenantState, name: str) -> None:
    looker = Console(person("looker", "billing.view_modelprice"))
    assert "Override" not in looker.text(price_page())
    assert looker.get(f"{PRICES}add/").status_code == 403
    assert looker.get(price_page(name)).status_code == 403
    assert looker.post(price_page(name), reason="x", **amounts("1", 0, 100_000)).status_code == 403
    assert looker.get(f"{PRICES}nonsense/change/").status_code == 404
    newcomer = Console(person("newcomer"))
    assert newcomer.get(price_page()).status_code == newcomer.get(PRICES).status_code == 403


def plan_form(**values: Any) -> dict[str, Any]:
    usual = {
        "name": "Startup",
        "code": "startup",
        "tier": "pro",
        "active": "on",
        "monthly_fee": "99",
        "usage_billing": "cost",
        "included_tokens": "0",
        "markup_percent": "12.5",
        "features": ["tools"],
    }
    return {**usual, **values}


def test_a_plan_is_made_and_changed_and_says_who_is_on_it(root: Console, acme: TenantState) -> None:
    assert root.post("billing/plan/add/", **plan_form(requests_per_minute="30")).status_code == 302
    with tenancy.in_platform():
        plan = Plan.objects.get(code="startup")
    assert (plan.features, plan.requests_per_minute) == (["tools"], 30)
    assert (
        root.post(page(acme, "billing/plan/"), plan=plan.pk, starts=timezone.now().date()).status_code == 302
    )
    assert cast.state("acme").terms.markup_percent == Decimal("12.5")
    assert root.post(f"billing/plan/{plan.pk}/change/", **plan_form(markup_percent="20")).status_code == 302
    assert cast.state("acme").terms.markup_percent == 20
    assert plans.tenants_on_plans()[plan.pk] == 1
    shown = root.text("billing/plan/")
    assert "what calls cost, and the mark-up" in shown
    assert root.get(f"billing/plan/{plan.pk}/delete/").status_code == 403


def test_a_plan_that_would_allow_nothing_is_refused(root: Console) -> None:
    answer = root.post("billing/plan/add/", **plan_form(usage_billing="tokens"))
    assert "this plan would allow none" in answer.content.decode()


def test_a_tenants_page_says_its_plan_and_changes_it(root: Console, acme: TenantState) -> None:
    assert "by its tier" in root.text(page(acme, "billing/"))
    with tenancy.in_platform():
        pro = Plan.objects.get(code="pro")
    form, today = page(acme, "billing/plan/"), timezone.now().date()
    past = root.post(form, plan=pro.pk, starts=today - timedelta(days=1))
    assert "This day is over" in past.content.decode()
    assert root.post(form, plan=pro.pk, starts=today + timedelta(days=7)).status_code == 302
    shown = root.text(page(acme, "billing/"))
    assert "To come" in shown
    assert "root" in shown
    assert cast.state("acme").terms.plan == "free"
    root.post(form, plan=pro.pk, starts=today)
    assert "10,000,000 tokens, then $5.00 a million" in root.text(page(acme, "billing/"))
    assert cast.state("acme").tier == "pro"


def test_who_pays_and_who_issues(root: Console, acme: TenantState) -> None:
    company = {"name": "Ours Ltd", "number_format": "A-{number:04d}", "days_to_pay": "30", "is_default": "on"}
    for wrong in ("A-1", "A-{nr}", "{number", "{number.real.x}"):
        assert root.post("billing/issuer/add/", **{**company, "number_format": wrong}).status_code == 200, (
            wrong
        )
    assert root.post("billing/issuer/add/", **company).status_code == 302
    with tenancy.in_platform():
        issuer = Issuer.objects.get(name="Ours Ltd")
    assert "Ours Ltd" in root.text("billing/issuer/")
    assert root.get(f"billing/issuer/{issuer.pk}/delete/").status_code == 403
    values = {
        "legal_name": "Acme Inc.",
        "address": "1 Road",
        "email": "pay@acme.example",
        "tax_percent": "19",
    }
    assert root.post(page(acme, "billing/account/"), **values, issuer=issuer.pk).status_code == 302
    with tenancy.in_platform():
        account = BillingAccount.objects.get(tenant_id=acme.ref.id)
    assert (account.legal_name, account.issuer_id) == ("Acme Inc.", issuer.pk)
    assert account.tax_percent == 19
    shown = root.text(page(acme, "billing/"))
    assert "Acme Inc." in shown
    assert "Ours Ltd" in shown
    assert root.post(page(acme, "billing/account/"), **{**values, "tax_percent": "-1"}).status_code == 200


@pytest.mark.parametrize("name", ["billing/", "billing/plan/", "billing/account/"])
def test_who_may_only_see_tenants_sees_no_plan(acme: TenantState, name: str) -> None:
    clerk = Console(person("clerk", "tenants.view_tenant"))
    assert clerk.get(page(acme, name)).status_code == clerk.post(page(acme, name)).status_code == 403
    assert "/billing/" not in clerk.text(page(acme, "change/"))
    looker = Console(person("looker", "tenants.view_tenant", "billing.view_subscription"))
    assert looker.get(page(acme, name)).status_code == (200 if name == "billing/" else 403)
    with tenancy.in_platform():
        assert not Subscription.objects.exists()
        assert not BillingAccount.objects.exists()
        assert not ModelPrice.objects.exclude(author="").exists()

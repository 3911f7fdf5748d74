"""Usage and invoices to those who may see them: in the tenant's console, in the staff's, and over REST."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing.models import Hold, IssuedDocument
from billing.services import credits, invoices
from billing.tests import scene
from billing.tests.scene import JUST_AFTER, MONTH, called
from billing.vocabulary import UsageBilling
from chatplatform import tenancy
from chatplatform.postgres.models import uuid7
from chatplatform.testing import cast
from chatplatform.testing.audit import written
from tenants.selectors import TenantState
from tenants.services import configuration
from tenants.tests.console import Console, person
from tenants.tests.people import Desk, member
from tenants.vocabulary import MemberRole


@pytest.fixture
def row(acme: TenantState) -> IssuedDocument:
    """Acme's invoice for April, over two models."""
    scene.issuer(name="Operator Ltd")
    scene.on_plan(acme.ref)
    with tenancy.in_tenant(acme.ref):
        called("10", model="gpt-5", input_tokens=1_234_567, cost_usd="7.77")
        called("2.5", model="gpt-5-mini")
    issued = invoices.issue(scene.tenant(acme.ref), MONTH, now=JUST_AFTER).document
    assert issued is not None
    return issued


class Api:
    """A key at the REST API."""

    def __init__(self, slug: str, *scopes: str) -> None:
        key = cast.key(slug, *(scopes or ("billing:read",)))
        self.client = Client(headers={"host": "127.0.0.1", "authorization": f"Bearer {key}"})

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/v1/{path}", query)


# --- The tenant's console ------------------------------------------------------------------------------------------
def test_a_member_sees_what_is_used_and_not_what_it_costs_us(acme: TenantState, row: IssuedDocument) -> None:
    html = Desk(acme, member(acme, MemberRole.VIEWER)).text("usage", month="2026-04")
    for said in ("openai/gpt-5-mini", "1,234,567", "$10.00", "$12.50", "Usage, April 2026"):
        assert said in html
    assert "7.77" not in html and "style=" not in html
    assert html.count("<rect") > 30 and 'role="img"' in html


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"usage_billing": UsageBilling.COST}, ["Costs are what you are charged"]),
        (
            {"usage_billing": UsageBilling.TOKENS, "included_tokens": 4_000_000, "overage_price": Decimal(3)},
            ["includes 4,000,000 a month; each further million costs $3.00", "Of your plan's tokens"],
        ),
    ],
)
def test_what_is_charged_is_said_by_the_plan(
    acme: TenantState, terms: dict[str, Any], said: list[str]
) -> None:
    scene.on_plan(acme.ref, **terms)
    with tenancy.in_tenant(acme.ref):
        called("1", day=timezone.now().date())
    state = cast.state("acme")
    html = " ".join(Desk(state, member(state, MemberRole.VIEWER)).text("usage").split())
    for words in said:
        assert words in html
    assert ("are not charged" in html) == (terms["usage_billing"] == UsageBilling.TOKENS)


@pytest.mark.parametrize("month", ["", "x", "2026-13", "9999-01", "2099-01"])
def test_a_month_that_is_none_is_this_one(acme: TenantState, month: str) -> None:
    html = Desk(acme, member(acme)).text("usage", month=month, by="nothing")
    assert f"Usage, {timezone.now():%B %Y}" in html and "Nothing was used" in html


def test_budgets_are_shown_with_what_is_left(acme: TenantState) -> None:
    configuration.change(acme.ref, {"monthly_cost_budget_usd": Decimal(50)}, author="test", by_staff=True)
    html = Desk(acme, member(acme)).text("")
    assert "$50.00" in html and html.count("No limit") == 2


def test_who_may_not_see_usage_sees_none_on_the_first_page(acme: TenantState) -> None:
    assert "Spent this month" not in Desk(acme, member(acme, MemberRole.SUPPORT)).text("")


def test_invoices_are_listed_read_and_downloaded(acme: TenantState, row: IssuedDocument) -> None:
    credits.credit(acme.ref, row.document, "Too much")
    desk = Desk(acme, member(acme, MemberRole.ANALYST))
    listed = desk.text("invoices")
    assert "INV-000001" in listed and "credit note for INV-000001" in listed and "−$12.50" in listed
    page = desk.text(f"invoices/{row.document}")
    assert "Operator Ltd" in page and "its calls" in page and "7.77" not in page
    table = desk.get(f"invoices/{row.document}.csv")
    assert table.headers["Content-Disposition"] == 'attachment; filename="INV-000001.csv"'
    assert "gpt-5-mini" in table.content.decode()
    assert desk.get(f"invoices/{row.document}.json").json()["total"] == "12.50"


def test_an_invoice_of_another_tenant_is_not_found(globex: TenantState, row: IssuedDocument) -> None:
    desk = Desk(globex, member(globex))
    for path in ("", ".csv", ".json", f"/calls/{uuid7()}.csv"):
        assert desk.get(f"invoices/{row.document}{path}").status_code == 404
    assert "no invoices yet" in desk.text("invoices")


def test_a_line_that_is_not_there_is_not_found(acme: TenantState, row: IssuedDocument) -> None:
    assert Desk(acme, member(acme)).get(f"invoices/{row.document}/calls/{uuid7()}.csv").status_code == 404


# --- The staff's console -------------------------------------------------------------------------------------------
def test_staff_see_both_prices_and_each_look_is_logged(acme: TenantState, row: IssuedDocument) -> None:
    console = Console(person("clerk", "billing.view_ledgerentry"))
    html = console.text("spending/acme/", month="2026-04")
    assert "$7.77" in html and "$12.50" in html
    console.text("spending/acme/ledger/", first="2026-04-01", last="2026-04-30")
    console.text("spending/acme/holds/")
    assert written("action", kinds=["spending"]) == [("spending.read",)] * 3
    dashboard = Console(person("boss", superuser=True)).text("")
    assert re.search(r"<strong>clerk</strong>\s+looked at the spending of acme", dashboard)


@pytest.mark.parametrize(
    "page",
    ["spending/acme/", "spending/acme/ledger/", "spending/acme/ledger.csv", "spending/acme/holds/"],
)
def test_without_permission_there_is_no_look(acme: TenantState, page: str) -> None:
    assert Console(person("newcomer")).get(page).status_code == 403
    assert Console(person("boss", superuser=True)).get(page.replace("acme", "nobody")).status_code == 404
    assert written(kinds=["spending"]) == []


def test_the_ledger_is_narrowed_by_its_form(acme: TenantState, row: IssuedDocument) -> None:
    console = Console(person("boss", superuser=True))
    days = {"first": "2026-04-01", "last": "2026-04-30"}
    html = console.text("spending/acme/ledger/", model="gpt-5-mini", **days)
    assert "openai/gpt-5-mini" in html and "<strong>openai/gpt-5</strong>" not in html
    assert "charged <strong>$2.5</strong>" in html
    wrong = console.text("spending/acme/ledger/", first="2026-05-01", last="2026-04-01", reply="x")
    assert "before the first day" in wrong and "Reply:" in wrong
    assert 'value="2026-04-01"' in console.text("spending/acme/ledger/", last="2026-04-09")


def held(tenant: TenantState, minutes: int) -> Hold:
    """What an attempt held so long ago and did not settle."""
    with tenancy.in_tenant(tenant.ref):
        return Hold.objects.create(
            reply=uuid7(),
            attempt=2,
            conversation=uuid7(),
            day=timezone.now().date(),
            usd=Decimal("0.0123"),
            tokens=4000,
            model="openai/gpt-5",
            taken_at=timezone.now() - timedelta(minutes=minutes),
        )


def test_holds_are_shown_with_their_age_and_what_they_are_for(acme: TenantState) -> None:
    hold = held(acme, 7)
    html = Console(person("boss", superuser=True)).text("spending/acme/holds/")
    for said in (str(hold.reply), "7\xa0minutes", "$0.0123", "openai/gpt-5", f"/{hold.conversation}/"):
        assert said in html
    clerk = Console(person("clerk", "billing.view_ledgerentry"))
    assert f"/{hold.conversation}/" not in clerk.text("spending/acme/holds/")


def test_dead_holds_can_be_given_back_by_those_who_may(acme: TenantState) -> None:
    _, young = held(acme, 60), held(acme, 1)
    clerk = Console(person("clerk", "billing.view_ledgerentry"))
    assert "Give back" not in clerk.text("spending/acme/holds/")
    assert clerk.post("spending/acme/holds/return/").status_code == 403
    boss = Console(person("boss", superuser=True))
    assert boss.get("spending/acme/holds/return/").status_code == 405
    boss.post("spending/acme/holds/return/")
    assert "1 given back." in boss.text("spending/acme/holds/")
    assert written("action", "data", kinds=["hold"]) == [("hold.returned", {"holds": 1})]
    with tenancy.in_tenant(acme.ref):
        assert [one.pk for one in Hold.objects.all()] == [young.pk]


# --- Over REST -----------------------------------------------------------------------------------------------------
def test_daily_usage_is_of_the_keys_tenant(acme: TenantState, row: IssuedDocument) -> None:
    days = {"from": "2026-04-01", "to": "2026-04-30"}
    shown = Api("acme").get("usage/daily", **days).json()
    assert shown["results"][0] == {
        "day": "2026-04-01",
        "provider": "openai",
        "model": "gpt-5",
        "calls": 1,
        "cache_hits": 0,
        "input_tokens": 1_234_567,
        "cached_input_tokens": 0,
        "output_tokens": 0,
        "cost_usd": "10.000000000",
        "saved_usd": "0.000000000",
    }
    assert Api("globex").get("usage/daily", **days).json()["results"] == []
    assert Api("acme").get("usage/daily").json()["results"] == []  # of this month


def test_daily_usage_comes_in_pages(acme: TenantState, in_acme: TenantState) -> None:
    for number in range(2):
        for model in ("a", "b", "c"):
            called("1", day=MONTH.replace(day=number + 1), model=model)
    api, query, seen = Api("acme"), {"from": "2026-04-01", "to": "2026-04-30", "page_size": 2}, []
    answer = api.get("usage/daily", **query).json()
    while True:
        seen += [(row["day"], row["model"]) for row in answer["results"]]
        if answer["next"] is None:
            break
        answer = api.client.get(answer["next"]).json()
    assert seen == [(f"2026-04-0{number}", model) for number in (1, 2) for model in "abc"]


@pytest.mark.parametrize(
    ("days", "field"),
    [
        ({"from": "2026-4-1"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"from": "x"}, "from"),
        ({"from": "2026-04-02", "to": "2026-04-01"}, "from"),
        ({"from": "2020-01-01", "to": "2026-04-01"}, "from"),
        ({"cursor": "x"}, "cursor"),
        ({"page_size": "0"}, "page_size"),
    ],
)
def test_what_is_no_range_of_days_is_refused(acme: TenantState, days: dict[str, str], field: str) -> None:
    answer = Api("acme").get("usage/daily", **days)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_invoices_are_listed_and_read(acme: TenantState, row: IssuedDocument) -> None:
    note = credits.credit(acme.ref, row.document, "Too much")
    api = Api("acme")
    listed = api.get("invoices").json()
    assert [(one["number"], one["total"], one["corrects"]) for one in listed["results"]] == [
        (note.name, "-12.50", "INV-000001"),
        ("INV-000001", "12.50", None),
    ]
    one = api.get("invoices", page_size=1).json()
    assert [one["number"] for one in api.client.get(one["next"]).json()["results"]] == ["INV-000001"]
    assert api.get(f"invoices/{row.document}").json()["credited"] == "12.50"


@pytest.mark.parametrize("by", [{"query_params": {"format": "csv"}}, {"headers": {"accept": "text/csv"}}])
def test_an_invoice_is_a_table_too(acme: TenantState, row: IssuedDocument, by: dict[str, Any]) -> None:
    answer = Api("acme").client.get(f"/api/v1/invoices/{row.document}", **by)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="INV-000001.csv"'
    assert "gpt-5-mini" in answer.content.decode()
    missing = Api("acme").client.get(f"/api/v1/invoices/{uuid7()}", **by)
    assert missing.status_code == 404 and missing.json()["code"] == "not_found"


def test_what_is_anothers_is_not_found_and_needs_the_scope(acme: TenantState, row: IssuedDocument) -> None:
    assert Api("globex").get(f"invoices/{row.document}").status_code == 404
    assert Api("globex").get("invoices").json()["results"] == []
    for path in ("usage/daily", "invoices", f"invoices/{row.document}"):
        assert Api("acme", "chat").get(path).status_code == 403

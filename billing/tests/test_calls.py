"""The download of the calls behind a line, which is read in pieces after the view has answered."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
from asgiref.sync import async_to_sync

from billing import invoices as reading
from billing.models import InvoiceLine
from billing.services import invoices
from billing.tests import scene
from billing.tests.scene import JUST_AFTER, MONTH, called
from chatplatform import tenancy
from chatplatform.testing import cast
from tenants.selectors import TenantState


@pytest.fixture
def acme(committed: None) -> Iterator[TenantState]:
    """Acme with a month of calls, seen by all threads."""
    state = cast.state("acme")
    with scene.wiped(state.ref):
        scene.issuer()
        scene.on_plan(state.ref)
        with tenancy.in_tenant(state.ref):
            for number in range(11):
                called(Decimal(number) / 3, model="ab"[number % 2], day=MONTH + timedelta(days=number // 4))
        yield state


def test_the_pieces_are_all_calls_of_the_line(acme: TenantState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK", 2)
    invoices.issue(scene.tenant(acme.ref), MONTH, now=JUST_AFTER)
    with tenancy.in_tenant(acme.ref):
        lines = list(InvoiceLine.objects.all())
        behind = [list(reading.entries(line)) for line in lines]
    for line, entries in zip(lines, behind, strict=True):
        rows = download(line, acme, ours=False)
        assert [row["id"] for row in rows] == [str(entry.id) for entry in entries]
        assert sum(Decimal(row["charged_usd"]) for row in rows) == line.exact
        assert "cost_usd" not in rows[0]
    assert "cost_usd" in download(lines[0], acme, ours=True)[0]


def download(line: InvoiceLine, tenant: TenantState, ours: bool) -> list[dict[str, str]]:
    async def collected() -> bytes:
        pieces = reading.entries_csv(line, partial(tenancy.in_tenant, tenant.ref), ours=ours)
        return b"".join([piece async for piece in pieces])

    return list(csv.DictReader(io.StringIO(async_to_sync(collected)().decode())))

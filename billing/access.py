"""The only ways to what a tenant used and was invoiced, for who is signed in to its console."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from uuid import UUID

from billing import invoices, selectors
from billing.invoices import Document
from billing.models import Invoice
from billing.selectors import DayUsage, Meters
from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from tenants.auth.members import Member
from tenants.services.access import access_action
from tenants.vocabulary import Action


@dataclass(frozen=True, slots=True)
class Spending:
    """What was used on these days, and the budgets as they stand now."""

    first: date
    last: date
    rows: Sequence[DayUsage]
    meters: Meters


def access_spending(member: Member, month: date) -> Spending:
    """What the tenant used in a month. Raises Problem."""
    access_action(member, Action.VIEW_USAGE)
    first, last = selectors.bounds(month)
    with tenancy.in_tenant(member.tenant.ref):
        rows = selectors.by_day_and_model(first, last)
        return Spending(first, last, rows, selectors.meters(member.tenant))


def access_invoices(member: Member) -> Sequence[Invoice]:
    """The tenant's invoices and credit notes, the newest first. Raises Problem."""
    access_action(member, Action.VIEW_INVOICES)
    with tenancy.in_tenant(member.tenant.ref):
        return list(invoices.of_tenant())


def access_invoice(member: Member, invoice_id: UUID) -> Document:
    """One of them. Raises Problem."""
    access_action(member, Action.VIEW_INVOICES)
    try:
        with tenancy.in_tenant(member.tenant.ref):
            return invoices.document(invoice_id)
    except Invoice.DoesNotExist as error:
        raise Problem(Code.NOT_FOUND, "There is no such invoice.") from error


def access_calls(member: Member, invoice_id: UUID, line_id: UUID) -> tuple[str, AsyncIterator[bytes]]:
    """The calls behind a line of one of them: a name, and the table in pieces. Raises Problem."""
    document = access_invoice(member, invoice_id)
    for line in document.lines:
        if line.pk == line_id:
            inside = partial(tenancy.in_tenant, member.tenant.ref)
            return f"{document.invoice.number}-{line.position}", invoices.entries_csv(line, inside)
    raise Problem(Code.NOT_FOUND, "There is no such line.")

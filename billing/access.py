"""The only ways to what a tenant used and was invoiced, for who is signed in to its console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from billing import selectors
from billing.selectors import DayUsage, Meters
from chatplatform import tenancy
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
        return Spending(first, last, rows, selectors.meters(member.tenant.configuration))

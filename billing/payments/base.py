"""What a payment provider is asked, and what it says. A new one is a module beside this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from billing.vocabulary import PaymentStatus


class NotTaken(Exception):
    """The provider did not do what it was asked to do; its message says why, without keys or personal data."""


class Unsigned(Exception):
    """A word that the provider did not sign, or signed long ago."""


@dataclass(frozen=True, slots=True)
class BillLine:
    """One line; `key` is the same each time the bill is sent."""

    key: str
    description: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """An invoice as a payment provider needs it. The amounts, tax among the lines, add up to `total`."""

    document: UUID
    number: str
    tenant: UUID
    name: str
    email: str
    customer: str  # the tenant's id at the provider; empty: it has none yet
    currency: str
    month: date
    due_on: date
    lines: Sequence[BillLine]
    total: Decimal


@dataclass(frozen=True, slots=True)
class Credit:
    """A credit note as a payment provider needs it. The amounts are positive, and add up to `total`."""

    document: UUID
    number: str
    corrects: str  # the provider's id of the invoice
    reason: str
    lines: Sequence[BillLine]
    total: Decimal


@dataclass(frozen=True, slots=True)
class Word:
    """What a provider says about a document. `event` is its own id of this word: a word said twice has the same."""

    document: UUID
    event: str
    reference: str
    status: PaymentStatus
    amount: Decimal
    at: datetime
    url: str = ""
    detail: str = ""


class PaymentProvider(Protocol):
    """Where invoices go to be paid."""

    name: str
    takes_invoices: bool

    def customer(self, bill: Bill) -> str:
        """The tenant's id at the provider, made if it has none. Raises NotTaken."""

    def send(self, bill: Bill) -> Word:
        """Hand an invoice over. Sending it again finds the first one. Raises NotTaken."""

    def credit(self, credit: Credit) -> Word | None:
        """Hand a credit note over; None if its invoice is void there. Sending it again finds the first one. Raises
        NotTaken."""

    def status(self, document: UUID, reference: str) -> Word:
        """What the provider says about an invoice now. Raises NotTaken."""

    def heard(self, body: bytes, headers: Mapping[str, str]) -> Word | None:
        """What a webhook's request says; None if it is about nothing of ours. Raises Unsigned, NotTaken."""

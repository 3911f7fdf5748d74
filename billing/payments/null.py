"""No payment provider: invoices are paid by other means, and nobody tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from billing.payments.base import Bill, Credit, NotTaken, Unsigned, Word


class NoProvider:
    """Takes nothing, says nothing."""

    name = "none"
    takes_invoices = False

    def customer(self, bill: Bill) -> str:
        raise NotTaken("There is no payment provider.")

    def send(self, bill: Bill) -> Word:
        raise NotTaken("There is no payment provider.")

    def credit(self, credit: Credit) -> Word | None:
        raise NotTaken("There is no payment provider.")

    def status(self, document: UUID, reference: str) -> Word:
        raise NotTaken("There is no payment provider.")

    def heard(self, body: bytes, headers: Mapping[str, str]) -> Word | None:
        raise Unsigned("There is no payment provider.")

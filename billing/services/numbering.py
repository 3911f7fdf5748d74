"""Numbers without a gap: one series per issuer, given out in the transaction that writes the document."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from billing.models import Invoice, IssuedDocument, Issuer
from chatplatform.api.problem import invalid


def locked(issuer_id: UUID) -> Issuer:
    """The issuer's row, locked until the transaction ends: whoever else numbers a document waits."""
    return Issuer.objects.select_for_update().get(id=issuer_id)


def register(issuer: Issuer, **fields: Any) -> IssuedDocument:
    """Give the next number to a document. To be called with the issuer locked. Raises Problem."""
    number = issuer.next_number
    try:
        name = issuer.number_format.format(number=number, year=fields["issued_at"].year)
    except (LookupError, ValueError, AttributeError) as error:
        raise invalid("number_format", f"{issuer}: the format {issuer.number_format!r} is wrong.") from error
    issuer.next_number = number + 1
    issuer.save(update_fields=["next_number"])
    return IssuedDocument.objects.create(issuer=issuer, number=number, name=name, **fields)


def check_free(name: str) -> None:
    """Raises Problem if the current tenant has a document of this name, from another issuer. Then no number is used."""
    if Invoice.objects.filter(number=name).exists():
        raise invalid("number_format", f"There is a {name} of another issuer: their formats have to differ.")

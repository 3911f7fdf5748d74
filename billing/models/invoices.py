"""Invoices and credit notes. Once issued, a document never changes; what was wrong is put right by another one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core.validators import MinValueValidator
from django.db import models

from billing.vocabulary import DocumentKind, LineKind, PaymentStatus
from chatplatform.postgres.models import SharedModel, TenantModel
from tenants.models import Tenant


def _amount() -> Any:
    """Dollars and cents."""
    return models.DecimalField(max_digits=14, decimal_places=2)


class Issuer(SharedModel):
    """A company that issues invoices. Its numbers have no gap: the row is locked while one is issued."""

    name = models.CharField(max_length=200)
    address = models.TextField(blank=True, default="")
    tax_number = models.CharField(max_length=60, blank=True, default="")
    number_format = models.CharField(max_length=40, default="INV-{number:06d}")
    next_number = models.PositiveBigIntegerField(default=1, editable=False)
    days_to_pay = models.PositiveSmallIntegerField(default=14)
    payment_note = models.TextField(blank=True, default="")
    is_default = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="one_default_issuer"
            )
        ]

    def __str__(self) -> str:
        return self.name


class BillingAccount(SharedModel):
    """To whom a tenant's invoices go, and how they are paid."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, related_name="billing_account")
    issuer = models.ForeignKey(Issuer, on_delete=models.PROTECT, null=True, blank=True)
    legal_name = models.CharField(max_length=200, blank=True, default="")
    address = models.TextField(blank=True, default="")
    email = models.EmailField(blank=True, default="")
    tax_number = models.CharField(max_length=60, blank=True, default="")
    tax_percent = models.DecimalField(
        max_digits=6, decimal_places=3, default=Decimal(0), validators=[MinValueValidator(Decimal(0))]
    )
    payment_customer = models.CharField(
        max_length=200, blank=True, default="", help_text="The tenant's id at the payment provider"
    )

    def __str__(self) -> str:
        return self.legal_name or str(self.tenant)


class IssuedDocument(SharedModel):
    """Which number went to which document: one row for each, of all tenants. `payment_status` alone ever changes."""

    issuer = models.ForeignKey(Issuer, on_delete=models.PROTECT, related_name="documents")
    number = models.PositiveBigIntegerField()
    # Not a foreign key: the number stays taken after the tenant is gone.
    tenant = models.UUIDField()
    tenant_slug = models.CharField(max_length=40)
    document = models.UUIDField(unique=True, help_text="The invoice's id in the tenant's schema")
    kind = models.CharField(max_length=12, choices=DocumentKind.choices)
    name = models.CharField(max_length=60, help_text="The number as it is printed")
    month = models.DateField()
    total = _amount()
    issued_at = models.DateTimeField()
    author = models.CharField(max_length=200, blank=True, default="", help_text="Who issued it")
    payment_status = models.CharField(
        max_length=10,
        choices=PaymentStatus.choices,
        blank=True,
        default="",
        help_text="The newest of its payments says so; empty: none of them is known",
    )

    class Meta:
        ordering = ["-issued_at", "-number"]
        verbose_name, verbose_name_plural = "invoice or credit note", "invoices and credit notes"
        indexes = [
            models.Index(
                fields=["payment_status"],
                condition=models.Q(payment_status=PaymentStatus.WAITING),
                name="documents_to_hand_over",
            )
        ]
        constraints = [
            models.UniqueConstraint(fields=["issuer", "number"], name="document_number_once"),
            models.UniqueConstraint(
                fields=["tenant", "month"],
                condition=models.Q(kind="invoice"),
                name="one_invoice_per_tenant_and_month",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Invoice(TenantModel):
    """An invoice or a credit note (then its amounts are negative and `corrects` names the invoice).

    What it says about issuer, recipient and plan is a copy of how they were. `month` is the first day of the month.
    """

    rights = "SELECT, INSERT"

    kind = models.CharField(max_length=12, choices=DocumentKind.choices, default=DocumentKind.INVOICE)
    number = models.CharField(max_length=60, unique=True)
    month = models.DateField()
    corrects = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="credit_notes")
    reason = models.CharField(max_length=300, blank=True, default="")
    issuer = models.JSONField()
    recipient = models.JSONField()
    plan = models.JSONField()
    currency = models.CharField(max_length=3, default="USD")
    subtotal = _amount()
    tax_percent = models.DecimalField(max_digits=6, decimal_places=3, default=Decimal(0))
    tax = _amount()
    total = _amount()
    issued_at = models.DateTimeField()
    due_on = models.DateField()

    class Meta:
        ordering = ["-issued_at", "-number"]

    def __str__(self) -> str:
        return self.number


class InvoiceLine(TenantModel):
    """One line; the sum of the lines' amounts is the document's subtotal. `exact` is what was rounded to `amount`.

    `starts` and `ends` are the first and the last of its days. A credit note's line names the one that it `corrects`.
    """

    rights = "SELECT, INSERT"

    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="lines")
    corrects = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="credits")
    position = models.PositiveSmallIntegerField()
    starts = models.DateField()
    ends = models.DateField()
    kind = models.CharField(max_length=10, choices=LineKind.choices)
    description = models.CharField(max_length=300)
    provider = models.CharField(max_length=40, blank=True, default="")
    model = models.CharField(max_length=200, blank=True, default="")
    calls = models.PositiveBigIntegerField(default=0)
    tokens = models.BigIntegerField(default=0)
    unit_price = models.DecimalField(max_digits=18, decimal_places=9, null=True)
    exact = models.DecimalField(max_digits=23, decimal_places=9)
    amount = _amount()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["invoice", "position"], name="invoice_line_once")]

    def __str__(self) -> str:
        return self.description


class Payment(TenantModel):
    """What a payment provider said about an invoice, one row for each word of it; the newest counts."""

    rights = "SELECT, INSERT"

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="payments")
    provider = models.CharField(max_length=40)
    reference = models.CharField(max_length=200)
    event = models.CharField(max_length=200, unique=True, help_text="The provider's id of this word")
    status = models.CharField(max_length=10, choices=PaymentStatus.choices)
    amount = _amount()
    url = models.URLField(max_length=500, blank=True, default="")
    detail = models.CharField(max_length=500, blank=True, default="")
    at = models.DateTimeField()

    class Meta:
        ordering = ["at"]

    def __str__(self) -> str:
        return f"{self.status} {self.reference}"

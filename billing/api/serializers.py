"""The shapes of usage and invoices over REST (documented here, made by `billing.selectors` and `billing.invoices`)."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from billing.vocabulary import DocumentKind, LineKind, PaymentStatus


class DayShape(serializers.Serializer[Any]):
    """What one model was used for on one day of UTC. Costs are in US dollars, as they count in
    budgets; a plan that charges tokens does not charge them."""

    day = serializers.DateField()
    provider = serializers.CharField()
    model = serializers.CharField()
    calls = serializers.IntegerField(help_text="That reached the provider, failed ones too")
    cache_hits = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    cached_input_tokens = serializers.IntegerField(help_text="Of the input tokens")
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.CharField()
    saved_usd = serializers.CharField(help_text="What answers out of the cache would have cost")


class DailyPage(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = DayShape(many=True)


class InvoiceRow(serializers.Serializer[Any]):
    """An invoice or a credit note, whose amounts are negative. Amounts are decimal strings."""

    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=DocumentKind.choices)
    number = serializers.CharField()
    month = serializers.CharField()
    issued_at = serializers.DateTimeField()
    due_on = serializers.DateField()
    corrects = serializers.CharField(allow_null=True, help_text="The number of the invoice that is corrected")
    currency = serializers.CharField()
    total = serializers.CharField()


class InvoicePage(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = InvoiceRow(many=True)


class LineShape(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    position = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=LineKind.choices)
    description = serializers.CharField()
    provider = serializers.CharField(allow_blank=True)
    model = serializers.CharField(allow_blank=True)
    starts = serializers.DateField()
    ends = serializers.DateField()
    calls = serializers.IntegerField()
    tokens = serializers.IntegerField()
    unit_price = serializers.CharField(allow_null=True)
    exact = serializers.CharField(help_text="What was rounded to the amount")
    amount = serializers.CharField()


class InvoiceShape(InvoiceRow):
    """The whole document."""

    reason = serializers.CharField(allow_blank=True)
    issuer = serializers.DictField()
    recipient = serializers.DictField()
    plans = serializers.ListField(child=serializers.DictField())
    lines = LineShape(many=True)
    subtotal = serializers.CharField()
    tax_percent = serializers.CharField()
    tax = serializers.CharField()
    credited = serializers.CharField()
    credit_notes = serializers.ListField(child=serializers.CharField())
    payment = serializers.ChoiceField(choices=PaymentStatus.choices, allow_null=True)
    pay_at = serializers.CharField(allow_blank=True)

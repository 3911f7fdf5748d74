"""Usage and invoices over REST, for the tenant of the credential."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from billing import invoices, selectors
from billing.api import serializers
from billing.api.renderers import CsvRenderer
from billing.models import Invoice
from chatplatform.api.pagination import PAGE, paginated
from chatplatform.api.problem import Code, Problem, invalid
from chatplatform.api.renderers import JSONRenderer
from tenants.api.base import ApiView
from tenants.vocabulary import Scope

LONGEST = timedelta(days=366)
DAYS = [
    OpenApiParameter("from", date, description="First day (UTC); default: the first of the last day's month"),
    OpenApiParameter("to", date, description="Last day, at most 366 days later; default: today"),
]
NO_INVOICE = "There is no such invoice."


class DailyUsage(ApiView):
    required_scope = Scope.BILLING_READ

    @extend_schema(
        operation_id="list_daily_usage", parameters=[*DAYS, *PAGE], responses=serializers.DailyPage
    )
    def get(self, request: Request) -> Response:
        """List usage per day and model, the first day first."""
        last = _day(request, "to") or timezone.now().date()
        first = _day(request, "from") or last.replace(day=1)
        if not timedelta() <= last - first <= LONGEST:
            raise invalid("from", "From a first day to a last one, at most 366 days later.")
        return paginated(request, selectors.daily(first, last), ("day", "provider", "model"), _day_as_json)


class Invoices(ApiView):
    required_scope = Scope.BILLING_READ

    @extend_schema(operation_id="list_invoices", parameters=PAGE, responses=serializers.InvoicePage)
    def get(self, request: Request) -> Response:
        """List invoices and credit notes, the newest first."""
        return paginated(request, invoices.of_tenant(), "-id", _row_as_json)


class OneInvoice(ApiView):
    required_scope = Scope.BILLING_READ
    renderer_classes = [JSONRenderer, CsvRenderer]

    @extend_schema(
        operation_id="get_invoice",
        parameters=[OpenApiParameter("format", str, enum=["json", "csv"], description="Or by `Accept`")],
        responses={
            (200, "application/json"): serializers.InvoiceShape,
            (200, "text/csv"): OpenApiTypes.STR,
        },
    )
    def get(self, request: Request, invoice_id: UUID) -> Response:
        """Show an invoice or a credit note, as JSON or CSV."""
        try:
            document = invoices.document(invoice_id)
        except Invoice.DoesNotExist as error:
            raise Problem(Code.NOT_FOUND, NO_INVOICE) from error
        if request.accepted_renderer.format == CsvRenderer.format:
            attached = content_disposition_header(True, f"{document.invoice.number}.csv")
            return Response(invoices.as_csv(document), headers={"Content-Disposition": attached})
        return Response(invoices.as_json(document))


def _day(request: Request, name: str) -> date | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        day = parse_date(text) if len(text) == len("2026-11-21") else None
    except ValueError:
        day = None
    if day is None:
        raise invalid(name, "A day such as 2026-11-21.")
    return day


def _day_as_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `selectors.daily`; what a call costs us is not the tenant's business."""
    counts = ("calls", "cache_hits", "input_tokens", "cached_input_tokens", "output_tokens")
    return {
        "day": row["day"].isoformat(),
        "provider": row["provider"],
        "model": row["model"],
        **{name: row[name] for name in counts},
        "cost_usd": f"{row['charged_usd']:f}",
        "saved_usd": f"{row['saved_usd']:f}",
    }


def _row_as_json(invoice: Invoice) -> dict[str, Any]:
    return {
        "id": str(invoice.id),
        "kind": invoice.kind,
        "number": invoice.number,
        "month": f"{invoice.month:%Y-%m}",
        "issued_at": invoice.issued_at,
        "due_on": invoice.due_on,
        "corrects": invoice.corrects.number if invoice.corrects else None,
        "currency": invoice.currency,
        "total": f"{invoice.total:f}",
    }

"""Invoices and credit notes of all tenants: the list, and the pages of one of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import content_disposition_header
from unfold.contrib.filters.admin import RelatedDropdownFilter

from billing import invoices, payments
from billing.admin import issuing
from billing.admin.forms import CreditForm, PaymentForm
from billing.admin.visits import Visit
from billing.models import BillingAccount, IssuedDocument
from billing.services import credits
from billing.services import payments as paying
from billing.templatetags.invoices import money
from billing.vocabulary import DocumentKind, PaymentStatus
from chatplatform import tenancy
from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from tenants.admin.pages import ReadOnlyAdmin, button, column, render
from tenants.models import Tenant

KIND_COLOURS = {DocumentKind.INVOICE: "info", DocumentKind.CREDIT_NOTE: "warning"}
PAYMENT_COLOURS = {
    PaymentStatus.WAITING: "warning",
    PaymentStatus.SENT: "info",
    PaymentStatus.PAID: "success",
    PaymentStatus.FAILED: "danger",
    PaymentStatus.VOIDED: "warning",
    PaymentStatus.REFUNDED: "warning",
}


def detail(visit: Visit) -> HttpResponseBase:
    """The document, what is known of its payment, and what can be done with it."""
    document = visit.read()
    may = visit.user.has_perm
    context = {
        **visit.links(document),
        "row": visit.row,
        "tenant": visit.tenant,
        "account": BillingAccount.objects.filter(tenant=visit.tenant).first(),
        "page_url": visit.url("page"),
        "may_credit": document.is_invoice
        and document.credited < document.invoice.total
        and may("billing.add_issueddocument"),
        "may_pay": document.is_invoice and may("billing.change_issueddocument"),
        "may_send": payments.provider().takes_invoices
        and document.is_invoice
        and visit.row.payment_status in ("", PaymentStatus.WAITING)
        and document.invoice.total > 0,
        "title": f"{document.invoice.get_kind_display()} {visit.row}",
        "original": visit.row,
    }
    return render(visit.admin, visit.request, "admin/billing/document.html", **context)


def printable(visit: Visit) -> HttpResponseBase:
    """The document alone, to read and to print."""
    context = {**visit.links(visit.read()), "back": visit.url("change")}
    return TemplateResponse(visit.request, "billing/document.html", context)


def as_csv(visit: Visit) -> HttpResponseBase:
    """The document as a table."""
    return _file(
        HttpResponse(invoices.as_csv(visit.read()), content_type="text/csv; charset=utf-8"), visit, "csv"
    )


def as_json(visit: Visit) -> HttpResponseBase:
    """The document for programs."""
    return _file(JsonResponse(invoices.as_json(visit.read())), visit, "json")


def calls(visit: Visit, line_id: UUID) -> HttpResponseBase:
    """The entries of the ledger behind a line, with what they cost us."""
    if not visit.user.has_perm("billing.view_ledgerentry"):
        raise PermissionDenied
    lines = [line for line in visit.read().lines if line.id == line_id]
    if not lines:
        raise Http404
    inside = partial(tenancy.staff_view, visit.tenant.ref)
    pieces = invoices.entries_csv(lines[0], inside, ours=True)
    answer = StreamingHttpResponse(pieces, content_type="text/csv; charset=utf-8")
    return _file(answer, visit, "csv", f"-{lines[0].position}-calls")


def credit(visit: Visit) -> HttpResponseBase:
    """Asks what to take back and why, then issues the credit note."""
    document = visit.read()
    with tenancy.staff_view(visit.tenant.ref):
        left = credits.left_of(document.invoice)
    form = CreditForm(left, visit.request.POST or None)
    if visit.request.method == "POST" and form.is_valid():
        try:
            note = credits.credit(
                visit.tenant.ref,
                visit.row.document,
                form.cleaned_data["reason"],
                form.amounts,
                author=visit.user.username,
                document_id=form.cleaned_data["document_id"],
            )
            return visit.done(f"{visit.row} is corrected by {note}.", note)
        except Problem as problem:
            refuse(form, problem)
    context = {"form": form, "row": visit.row, "back": visit.url("change"), "title": f"Credit {visit.row}"}
    return render(visit.admin, visit.request, "admin/billing/credit.html", original=visit.row, **context)


def send(visit: Visit) -> HttpResponseBase:
    """Hands the invoice to the payment provider."""
    try:
        paying.send_again(visit.row)
    except Problem as problem:
        messages.error(visit.request, problem.detail)
        return HttpResponseRedirect(visit.url("change"))
    return visit.done(f"{visit.row} is on its way to the payment provider.")


def paid(visit: Visit) -> HttpResponseBase:
    """Writes down that it was paid by other means."""
    form = PaymentForm(visit.request.POST or None, initial={"amount": visit.row.total})
    if visit.request.method == "POST" and form.is_valid():
        try:
            paying.record_by_hand(
                visit.row, form.cleaned_data["amount"], form.cleaned_data["detail"], visit.user.username
            )
            return visit.done(f"A payment for {visit.row} is written down.")
        except Problem as problem:
            refuse(form, problem)
    context = {"form": form, "row": visit.row, "back": visit.url("change")}
    title = f"Write down a payment for {visit.row}"
    return render(
        visit.admin, visit.request, "admin/billing/paid.html", original=visit.row, title=title, **context
    )


READ, WRITE, POST = ("GET", "HEAD"), ("GET", "HEAD", "POST"), ("POST",)
VIEW, ADD, CHANGE = (f"billing.{one}_issueddocument" for one in ("view", "add", "change"))
PAGES: tuple[tuple[str, str, Callable[..., HttpResponseBase], str, tuple[str, ...]], ...] = (
    ("change", "change/", detail, VIEW, READ),
    ("page", "page/", printable, VIEW, READ),
    ("csv", "file.csv", as_csv, VIEW, READ),
    ("json", "file.json", as_json, VIEW, READ),
    ("calls", "calls/<uuid:line_id>.csv", calls, VIEW, READ),
    ("credit", "credit/", credit, ADD, WRITE),
    ("send", "send/", send, CHANGE, POST),
    ("paid", "paid/", paid, CHANGE, WRITE),
)


@admin.register(IssuedDocument)
class IssuedDocumentAdmin(ReadOnlyAdmin):
    """Every number that was given out, newest first."""

    list_display = (
        "shown_number",
        "shown_kind",
        "shown_tenant",
        "shown_month",
        "shown_total",
        "shown_payment",
        "issued_at",
    )
    list_filter = ("kind", "payment_status", ("issuer", RelatedDropdownFilter), "month")
    list_filter_submit = True
    list_select_related = ("issuer",)
    search_fields = ("name", "tenant_slug")
    search_help_text = "Number or tenant"
    date_hierarchy = "month"
    list_per_page = 50
    actions_list = ["issue_action"]

    def get_urls(self) -> list[URLPattern]:
        mine = [
            path(
                f"<uuid:document_id>/{address}",
                self.admin_site.admin_view(self._guarded(view, permission, methods)),
                name=f"billing_issueddocument_{name}",
            )
            for name, address, view, permission, methods in PAGES
        ]
        issue = path(
            "issue/",
            self.admin_site.admin_view(partial(issuing.issue, self)),
            name="billing_issueddocument_issue",
        )
        return [issue, *mine, *super().get_urls()]

    def _guarded(
        self, view: Callable[..., HttpResponseBase], permission: str, methods: tuple[str, ...]
    ) -> Callable[..., HttpResponseBase]:
        def guarded(request: HttpRequest, document_id: UUID, **kwargs: Any) -> HttpResponseBase:
            if not request.user.has_perms((VIEW, permission)):
                raise PermissionDenied
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            row = get_object_or_404(IssuedDocument, pk=document_id)
            # The number outlives an erased tenant; the document does not.
            return view(Visit(self, request, row, get_object_or_404(Tenant, pk=row.tenant)), **kwargs)

        return guarded

    @button(description="Issue an invoice…", url_path="go-issue", permissions=["issue"])
    def issue_action(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:billing_issueddocument_issue"))

    def has_issue_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(ADD))

    @column(description="Number", ordering="number")
    def shown_number(self, row: IssuedDocument) -> str:
        return row.name

    @column(description="Tenant", ordering="tenant_slug")
    def shown_tenant(self, row: IssuedDocument) -> str:
        return row.tenant_slug

    @column(description="Total", ordering="total")
    def shown_total(self, row: IssuedDocument) -> str:
        return money(row.total)

    @column(description="Kind", label=KIND_COLOURS, ordering="kind")
    def shown_kind(self, row: IssuedDocument) -> tuple[str, str]:
        return row.kind, row.get_kind_display()

    @column(description="Month", ordering="month")
    def shown_month(self, row: IssuedDocument) -> str:
        return f"{row.month:%Y-%m}"

    @column(description="Payment", label=PAYMENT_COLOURS, ordering="payment_status")
    def shown_payment(self, row: IssuedDocument) -> tuple[str, str]:
        return row.payment_status, row.get_payment_status_display() or "—"


def _file(answer: Any, visit: Visit, ending: str, more: str = "") -> HttpResponseBase:
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in visit.row.name)
    answer.headers["Content-Disposition"] = content_disposition_header(True, f"{name}{more}.{ending}")
    result: HttpResponseBase = answer
    return result

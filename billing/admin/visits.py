"""A visit to a page of one document: who, which one, and how it is read and left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from billing import invoices
from billing.invoices import Document
from billing.models import InvoiceLine, IssuedDocument
from chatplatform import tenancy
from tenants import audit
from tenants.models import Tenant, User
from tenants.vocabulary import AuditAction


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page of one document; permissions have been checked."""

    admin: Any
    request: HttpRequest
    row: IssuedDocument
    tenant: Tenant

    @property
    def user(self) -> User:
        user = self.request.user
        assert isinstance(user, User), "the console's pages are behind its sign-in"
        return user

    def read(self) -> Document:
        """The document, out of its tenant's schema; the look is logged before."""
        audit.record(AuditAction.INVOICE_READ, self.row.document, tenant=self.tenant.id)
        with tenancy.staff_view(self.tenant.ref):
            return invoices.document(self.row.document)

    def url(self, page: str, *args: object) -> str:
        return reverse(f"admin:billing_issueddocument_{page}", args=[self.row.pk, *args])

    def links(self, document: Document) -> dict[str, Any]:
        """What the document's template needs."""
        may = self.user.has_perm("billing.view_ledgerentry")
        return invoices.page(document, self.url("csv"), self.url("json"), self._calls_url if may else None)

    def _calls_url(self, line: InvoiceLine) -> str:
        return self.url("calls", line.id)

    def done(self, message: str, row: IssuedDocument | None = None) -> HttpResponse:
        """Log and say what was done, and go to the document (or another one)."""
        self.admin.log_change(self.request, self.row, message)
        messages.success(self.request, message)
        return HttpResponseRedirect(
            reverse("admin:billing_issueddocument_change", args=[(row or self.row).pk])
        )

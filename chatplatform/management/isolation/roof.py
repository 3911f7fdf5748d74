"""The walks of what belongs to no app: the admin's own pages, probes and documents."""

from __future__ import annotations

from collections.abc import Mapping

from chatplatform.isolation import Call, Command, Elsewhere, Planted, Walks, Who

NOBODY, STAFF = Who.NOBODY, Who.STAFF
OPEN = (Call(NOBODY, open=True),)
# The model of each of the admin's lists, the planted row that its pages are opened with, whether they show the canary,
# and what adding and deleting answer.
MODELS = (
    ("tenants/auditentry", "audit_entry", False, 403, 403),
    ("tenants/tokenissuer", "issuer_id", True, 200, 403),
    ("tenants/isolationreport", "report", False, 403, 403),
    ("tenants/signingkey", "signing_key", False, 403, 403),
    ("tenants/apikey", "key", True, 200, 403),
    ("tenants/user", "staff", False, 200, 200),
    ("auth/group", "group", False, 200, 200),
    ("tenants/tenant", "tenant_id", False, 200, 403),
    ("billing/issueddocument", "document_id", True, 403, 403),
    ("billing/plan", "plan", True, 200, 403),
    ("billing/modelprice", "price", False, 200, 403),
    ("billing/issuer", "issuer_of_invoices", False, 200, 403),
)


def _pages() -> Mapping[str, tuple[Call, ...]]:
    """Those that Django makes for each model."""
    found: dict[str, tuple[Call, ...]] = {}
    for model, row, shows, add, delete in MODELS:
        ids, one = {"object_id": row}, f"admin/{model}/<path:object_id>/"
        found[f"admin/{model}/"] = (Call(STAFF, everybody=True),)
        found[f"admin/{model}/add/"] = (Call(STAFF, status=add, everybody=True),)
        found[one] = (Call(STAFF, status=302, ids=ids),)
        found[f"{one}change/"] = (Call(STAFF, ids=ids, shows=shows),)
        found[f"{one}history/"] = (Call(STAFF, ids=ids),)
        found[f"{one}delete/"] = (Call(STAFF, status=delete, ids=ids),)
    return found


PROBES = {
    ".well-known/jwks.json": OPEN,
    "favicon.ico": (Call(NOBODY, status=302, open=True),),
    "livez": OPEN,
    "readyz": OPEN,
}


def plant(tenant: Planted) -> None:
    """Nothing."""


WALKS = Walks(
    plant,
    api={"schema": OPEN, "docs": OPEN},
    pages=PROBES,
    staff={
        **PROBES,
        **_pages(),
        "": OPEN,
        "metrics": OPEN,
        "admin": (Call(NOBODY, status=302, open=True),),
        "admin/": (Call(STAFF, everybody=True),),
        "admin/search/": (Call(STAFF, query="s=tenant", everybody=True),),
        "admin/login/": OPEN,
        "admin/password_change/": (Call(STAFF),),
        "admin/password_change/done/": (Call(STAFF),),
        "admin/autocomplete/": (Call(STAFF, status=403),),
        "admin/jsi18n/": (Call(STAFF),),
        "admin/r/<path:content_type_id>/<path:object_id>/": (
            Call(STAFF, status=404, ids={"content_type_id": "slug", "object_id": "tenant_id"}),
        ),
        "admin/^(?P<app_label>tenants|auth|billing)/$": (
            Call(STAFF, ids={"app_label": "app"}, everybody=True),
        ),
        "admin/(?P<url>.*)$": (Call(STAFF, status=404, ids={"url": "slug"}),),
        "admin/logout/": (Call(Who.LEAVING_STAFF, "POST", body={}, open=True),),
    },
    commands={
        "check_isolation": Elsewhere("It is at it."),
        "check_platform": Command(everybody=True),
        "ensure_demo": Elsewhere("It makes the tenant of `make run`, by what provision_tenant calls."),
        "run_platform": Elsewhere("It starts the processes, and knows no tenant."),
        "run_provider_simulator": Elsewhere("It serves the simulator, and knows no tenant."),
    },
)

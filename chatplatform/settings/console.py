"""How the staff console looks and what its sidebar holds (django-unfold)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _may(*permissions: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perms(permissions)


def _item(title: str, icon: str, page: str, permission: str, *active: str) -> dict[str, Any]:
    """One line of the sidebar. `active` are the starts of the addresses it stands for, below /admin/."""
    item: dict[str, Any] = {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(page),
        "permission": _may(permission),
    }
    if active:
        starts = tuple(f"/admin/{start}" for start in active)
        item["active"] = lambda request: request.path.startswith(starts)
    return item


FORMAT_MODULE_PATH = ["chatplatform.settings.formats"]

UNFOLD = {
    "SITE_TITLE": "chatplatform",
    "SITE_HEADER": "chatplatform",
    "SITE_SUBHEADER": "Staff console",
    "SITE_URL": "/admin/",
    "SITE_ICON": lambda request: static("chat/icon.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("chat/icon.svg")}
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [
        lambda request: static("staff/console.css"),
        lambda request: static("staff/tenants.css"),
        lambda request: static("staff/conversations.css"),
        lambda request: static("staff/billing.css"),
    ],
    "ACCOUNT": {
        "navigation": [
            {"title": "Second factors", "link": reverse_lazy("staff-second-factors")},
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
        ],
    },
    "LOGIN": {"form": "tenants.auth.staff_form.SignInForm"},
    "DASHBOARD_CALLBACK": "conversations.staff.dashboard.fill",
    "BORDER_RADIUS": "8px",
    "COLORS": {
        # The accent of the chat page, in steps.
        "primary": {
            "50": "#eef8f5",
            "100": "#d6efe8",
            "200": "#b0dfd3",
            "300": "#7fc9b8",
            "400": "#4aae9a",
            "500": "#249380",
            "600": "#0d6b5a",
            "700": "#0b5d4e",
            "800": "#0c4a3f",
            "900": "#0c3d35",
            "950": "#05231e",
        },
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "items": [
                    {
                        "title": "Dashboard",
                        "icon": "space_dashboard",
                        "link": reverse_lazy("admin:index"),
                        "active": lambda request: request.path == "/admin/",
                    }
                ]
            },
            {
                "title": "Tenants",
                "separator": True,
                "items": [
                    _item(
                        "All tenants",
                        "domain",
                        "admin:tenants_tenant_changelist",
                        "tenants.view_tenant",
                        "tenants/tenant/",
                        "spending/",
                    )
                ],
            },
            {
                "title": "Conversations",
                "separator": True,
                "items": [
                    _item(
                        "Look into a tenant",
                        "forum",
                        "staff:tenants",
                        "conversations.view_conversation",
                        "conversations/",
                    )
                ],
            },
            {
                "title": "Billing",
                "separator": True,
                "items": [
                    _item(
                        "Invoices",
                        "receipt_long",
                        "admin:billing_issueddocument_changelist",
                        "billing.view_issueddocument",
                        "billing/issueddocument/",
                    ),
                    _item("Prices", "sell", "admin:billing_modelprice_changelist", "billing.view_modelprice"),
                    _item("Plans", "inventory_2", "admin:billing_plan_changelist", "billing.view_plan"),
                    _item("Issuers", "storefront", "admin:billing_issuer_changelist", "billing.view_issuer"),
                ],
            },
            {
                "title": "People",
                "separator": True,
                "items": [
                    _item("Staff", "person", "admin:tenants_user_changelist", "tenants.view_user"),
                    _item("Groups", "group", "admin:auth_group_changelist", "auth.view_group"),
                ],
            },
            {
                "title": "Keys",
                "separator": True,
                "items": [
                    _item("API keys", "key", "admin:tenants_apikey_changelist", "tenants.view_apikey"),
                    _item(
                        "Token issuers",
                        "verified_user",
                        "admin:tenants_tokenissuer_changelist",
                        "tenants.view_tokenissuer",
                    ),
                    _item(
                        "Signing keys",
                        "signature",
                        "admin:tenants_signingkey_changelist",
                        "tenants.view_signingkey",
                    ),
                ],
            },
            {
                "title": "Log",
                "separator": True,
                "items": [
                    _item(
                        "Audit log",
                        "history",
                        "admin:tenants_auditentry_changelist",
                        "tenants.view_auditentry",
                    ),
                    _item(
                        "Isolation",
                        "verified_user",
                        "admin:tenants_isolationreport_changelist",
                        "tenants.view_isolationreport",
                    ),
                ],
            },
        ],
    },
}

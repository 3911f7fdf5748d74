"""The apps, and what every request passes."""

from __future__ import annotations

INSTALLED_APPS = [
    "chatplatform.apps.ChatplatformConfig",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "tenants",
    "experiments",
    "billing",
    "conversations",
    "analytics",
]
MIDDLEWARE = [
    "chatplatform.observability.middleware.request_context",
    "servestatic.middleware.ServeStaticMiddleware",
    "chatplatform.security.secure_headers",
    "tenants.middleware.resolve_host",
    "tenants.middleware.StaffSession",
    "chatplatform.security.CsrfForPages",
]
# tenants.middleware.StaffSession carries the three that the admin looks for, chatplatform.security the one for CSRF and
# what Django's middleware of the same name and its one against frames would say.
SILENCED_SYSTEM_CHECKS = [
    *("admin.E408", "admin.E409", "admin.E410"),
    *("security.W001", "security.W002", "security.W003"),
]

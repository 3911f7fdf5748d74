"""What the console's own pages share: who asks, about which tenant, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from chatplatform.api.forms import refuse as refuse
from tenants.models import Tenant, User
from tenants.selectors import page_url

F = TypeVar("F", bound=Callable[..., Any])
STATUS_COLOURS = {
    "requested": "info",
    "schema": "info",
    "seeded": "info",
    "active": "success",
    "suspended": "warning",
    "failed": "danger",
}


_added: list[Page] = []


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page of one tenant; permissions have been checked."""

    admin: Any
    request: HttpRequest
    tenant: Tenant

    @property
    def user(self) -> User:
        return _user(self.request)

    def may(self, *permissions: str) -> bool:
        """Whether the visitor has all these permissions; those without an app's name are of the tenants app."""
        return all(_has(self.user, one) for one in permissions)

    def url(self, page: str, *args: object) -> str:
        """Address of a page of this tenant."""
        return reverse(f"admin:tenants_tenant_{page}", args=[self.tenant.pk, *args])

    def go(self, page: str, *args: object) -> HttpResponse:
        return HttpResponseRedirect(self.url(page, *args))

    def render(self, template: str, tab: str, **context: Any) -> TemplateResponse:
        shown = {**tenant_context(self.request, self.tenant), "tab": tab, **context}
        return render(self.admin, self.request, template, original=self.tenant, **shown)

    def log(self, message: str) -> None:
        """Write a change of this tenant to the log of changes."""
        self.admin.log_change(self.request, self.tenant, message)


@dataclass(frozen=True, slots=True)
class Page:
    """A page below a tenant's: its path, what it needs (see `Visit.may`), and its view."""

    name: str
    path: str
    view: Callable[..., HttpResponseBase]
    permission: str = "view_tenant"
    methods: tuple[str, ...] = ("GET", "HEAD")


def add_pages(*pages: Page) -> None:
    """Pages of a tenant's that are another app's. To be called while admins are discovered."""
    _added.extend(pages)


def urls(model_admin: Any, pages: tuple[Page, ...]) -> list[URLPattern]:
    """The pages as URLs of a model admin, behind the console's sign-in."""
    return [
        path(
            f"<uuid:tenant_id>/{page.path}",
            model_admin.admin_site.admin_view(_guarded(model_admin, page)),
            name=f"tenants_tenant_{page.name}",
        )
        for page in (*pages, *_added)
    ]


def _guarded(model_admin: Any, page: Page) -> Callable[..., HttpResponseBase]:
    def view(request: HttpRequest, tenant_id: object, **kwargs: Any) -> HttpResponseBase:
        if not _has(_user(request), page.permission):
            raise PermissionDenied
        if request.method not in page.methods:
            return HttpResponseNotAllowed(page.methods)
        return page.view(Visit(model_admin, request, get_object_or_404(Tenant, pk=tenant_id)), **kwargs)

    return view


def tenant_context(request: HttpRequest, tenant: Tenant) -> dict[str, Any]:
    """What the head of a tenant's pages shows."""
    return {
        "tenant": tenant,
        "status_colour": STATUS_COLOURS[tenant.status],
        "chat_url": page_url(tenant.slug),
    }


def render(model_admin: Any, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
    """A page in the console's frame."""
    frame: Mapping[str, Any] = admin.site.each_context(request)
    # With `opts` the theme heads the page by the object's place, else by the title.
    place = {"opts": model_admin.opts} if "original" in context else {}
    return TemplateResponse(request, template, {**frame, **place, **context})


def confirm(
    model_admin: Any, request: HttpRequest, *, title: str, text: str, button: str, back: str, **context: Any
) -> TemplateResponse:
    """Asks before something happens; the form posts to the same address."""
    shown = {"title": title, "text": text, "button": button, "back": back, "danger": True, **context}
    return render(model_admin, request, "admin/tenants/confirm.html", **shown)


def _has(user: User, permission: str) -> bool:
    return user.has_perm(permission if "." in permission else f"tenants.{permission}")


def _user(request: HttpRequest) -> User:
    user = request.user
    assert isinstance(user, User), "the console's pages are behind its sign-in"
    return user


def column(**options: Any) -> Callable[[F], F]:
    """The theme's `display`, with types."""
    return cast("Callable[[F], F]", display(**options))


def button(**options: Any) -> Callable[[F], F]:
    """The theme's `action`, with types."""
    return cast("Callable[[F], F]", action(**options))


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """A table that can be looked at and no more."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

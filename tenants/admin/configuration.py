"""A tenant's configuration: what is in force, the next version, and what two versions differ in."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404

from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem, as_problem
from tenants import differences
from tenants.admin.forms import ConfigurationForm
from tenants.admin.pages import Page, Visit
from tenants.admin.presentation import groups, label, shown, text_html
from tenants.models import ConfigurationVersion
from tenants.models.configuration import FIELDS
from tenants.services import configuration

HISTORY = 50


def show(visit: Visit) -> HttpResponseBase:
    """The version in force, or the one asked for by `?version=`, and the history."""
    versions = _versions(visit)
    newest = versions[0]
    version = _asked(visit, "version", default=newest.number)
    return visit.render(
        "admin/tenants/configuration.html",
        "configuration",
        version=version,
        newest=newest,
        groups=groups(version),
        history=_history(list(versions[: HISTORY + 1])),
        may_edit=visit.may("add_configurationversion"),
        title=f"Configuration of {visit.tenant.name}",
    )


def edit(visit: Visit) -> HttpResponseBase:
    """The form; what is saved is a new version, and only what the writer changed goes into it."""
    posted = visit.request.POST if visit.request.method == "POST" else None
    newest = configuration.current(visit.tenant.ref)
    base = newest
    if posted is not None and posted.get("base", "").isdecimal():
        base = get_object_or_404(_versions(visit), number=int(posted["base"]))
    form = ConfigurationForm(posted, instance=base)
    if posted is not None and form.is_valid() and (version := _written(visit, form)):
        return _answer(visit, newest, version)
    return visit.render(
        "admin/tenants/configuration_edit.html",
        "configuration",
        form=form,
        newest=newest,
        title=f"Configuration of {visit.tenant.name}",
    )


def compare(visit: Visit) -> HttpResponseBase:
    """What `?to=` (the newest) changed since `?from=` (the one before it)."""
    versions = _versions(visit)
    new = _asked(visit, "to", default=versions[0].number)
    old = _asked(visit, "from", default=max(1, new.number - 1))
    rows = [
        {
            "label": label(one.field),
            "kind": one.kind,
            "pieces": one.pieces,
            "html": text_html(one.pieces) if one.kind == "text" else "",
            "before": shown(one.field, one.before),
            "after": shown(one.field, one.after),
        }
        for one in differences.between(old, new)
    ]
    return visit.render(
        "admin/tenants/configuration_compare.html",
        "configuration",
        old=old,
        new=new,
        rows=rows,
        unchanged=len(FIELDS) - len(rows),
        versions=versions[:500],
        title=f"Version {old.number} → {new.number} of {visit.tenant.name}",
    )


def _written(visit: Visit, form: ConfigurationForm) -> ConfigurationVersion | None:
    author = visit.user.get_username()
    try:
        return configuration.change(visit.tenant.ref, form.changes(), author=author, by_staff=True)
    except (Problem, ValidationError) as error:
        refuse(form, as_problem(error))
        return None


def _answer(visit: Visit, before: ConfigurationVersion, version: ConfigurationVersion) -> HttpResponseBase:
    if version.number == before.number:
        messages.info(visit.request, f"Nothing changed: version {before.number} stays in force.")
        return visit.go("configuration")
    visit.log(f"Wrote configuration version {version.number}.")
    said = f"Version {version.number} is written, and in force everywhere within five seconds."
    seen = int(visit.request.POST["base"])
    if seen != version.number - 1:
        said += (
            f" Version {version.number - 1} had been written meanwhile; your changes were put on top of it."
        )
    messages.success(visit.request, said)
    return visit.go("configuration")


def _versions(visit: Visit) -> QuerySet[ConfigurationVersion]:
    return ConfigurationVersion.objects.filter(tenant=visit.tenant).order_by("-number")


def _asked(visit: Visit, name: str, *, default: int) -> ConfigurationVersion:
    given = visit.request.GET.get(name) or str(default)
    if not given.isascii() or not given.isdecimal() or len(given) > 9:
        raise Http404
    return get_object_or_404(_versions(visit), number=int(given))


def _history(versions: list[ConfigurationVersion]) -> list[dict[str, Any]]:
    """Newest first, each with the names of the fields it changed. The first version has changed nothing."""
    rows = [
        {
            "version": new,
            "changed": [label(name) for name in differences.names(old, new)],
            "previous": old.number,
        }
        for new, old in pairwise(versions)
    ]
    if versions[-1].number == 1:
        rows.append({"version": versions[-1], "changed": [], "previous": None})
    return rows


BOTH = ("GET", "HEAD", "POST")
PAGES = (
    Page("configuration", "configuration/", show, "view_configurationversion"),
    Page("configuration_edit", "configuration/edit/", edit, "add_configurationversion", BOTH),
    Page("configuration_compare", "configuration/compare/", compare, "view_configurationversion"),
)

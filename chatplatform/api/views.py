"""Answers to requests that no view took."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import is_valid_path

from chatplatform.api.problem import Code, Problem, as_problem


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """Django's handler404."""
    return page(request, Problem(Code.NOT_FOUND, "There is nothing at this address."))


def not_allowed(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """Django's handler403."""
    return page(request, Problem(Code.NOT_ALLOWED, "Your account may not do this."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500. The error has been logged; the answer tells nothing of it."""
    return page(request, Problem(Code.INTERNAL_ERROR))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW."""
    return page(request, Problem(Code.NOT_ALLOWED, "The CSRF token is missing or wrong: reload the page."))


def page(request: HttpRequest, problem: Problem) -> HttpResponse:
    """The problem as a page for a browser, as problem+json for a program."""
    if "text/html" not in request.headers.get("Accept", "") or request.path.startswith("/api/"):
        return problem.response()
    templates = [f"errors/{problem.code}.html", f"errors/{problem.code.status}.html", "errors/500.html"]
    html = render_to_string(templates, {"problem": problem.body(), "home": _home(request)})
    return HttpResponse(html, status=problem.code.status, headers=problem.headers)


def _home(request: HttpRequest) -> str:
    """Where somebody goes from a page that is none: to the first of the console that they were in."""
    urls = getattr(request, "urlconf", None)
    doors = (door for door in ("/console/", "/admin/") if request.path.startswith(door))
    return next((door for door in doors if is_valid_path(door, urls)), "/")


def page_of(request: HttpRequest, error: Exception) -> HttpResponse:
    """Whatever went wrong, as a page or a problem."""
    return page(request, as_problem(error))

"""What there is to be walked, found by looking at the running code and not at any list of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from celery import Celery
from django.apps import apps
from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.core.management import get_commands
from django.urls import URLPattern, URLResolver, get_resolver
from pgvector.django import VectorField

from chatplatform.routing import websockets
from tenants.fields import SealedTextField
from tenants.middleware import PLATFORM_URLS

API = "api/v1/"
OURS = ("chatplatform", "tenants", "conversations", "experiments", "billing", "analytics")
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the tenants' hosts, or of the platform's. `methods` are those of a class of the API; None: any."""

    pattern: str
    platform: bool
    methods: frozenset[str] | None

    @property
    def of_api(self) -> bool:
        return self.pattern.startswith(API)

    def __str__(self) -> str:
        return f"{'the platform' if self.platform else 'a tenant'}'s /{self.pattern}"


def routes() -> list[Route]:
    """Every URL of every host."""
    found = []
    for conf, platform in ((settings.ROOT_URLCONF, False), (PLATFORM_URLS, True)):
        for pattern, view in _urls(get_resolver(conf).url_patterns):
            found.append(Route(pattern, platform, _methods(view)))
    return found


def sockets() -> list[str]:
    """Every WebSocket route."""
    return [str(route.pattern) for route in websockets.routes]


def tasks(app: Celery) -> dict[str, Any]:
    """Every task but Celery's own, and those that the tests of jobs have made in this process."""
    app.loader.import_default_modules()
    return {
        name: task for name, task in sorted(app.tasks.items()) if not name.startswith(("celery.", "tests."))
    }


def commands() -> list[str]:
    """Every management command of ours."""
    return sorted(name for name, app in get_commands().items() if str(app).partition(".")[0] in OURS)


def searched_models() -> list[str]:
    """Every model that can be searched by words or by vectors: by what its columns are, or how they are indexed."""
    kinds = (VectorField, SearchVectorField)
    return sorted(
        model._meta.label
        for model in apps.get_models()
        if any(isinstance(getattr(field, "output_field", field), kinds) for field in model._meta.get_fields())
        or any(isinstance(index, GinIndex) for index in model._meta.indexes)
    )


def sealed() -> list[SealedTextField]:
    """Every column of texts that are sealed."""
    fields = (field for model in apps.get_models() for field in model._meta.concrete_fields)
    return [field for field in fields if isinstance(field, SealedTextField)]


def _urls(patterns: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for one in patterns:
        if isinstance(one, URLResolver):
            yield from _urls(one.url_patterns, prefix + str(one.pattern))
        elif isinstance(one, URLPattern):
            yield prefix + str(one.pattern), one.callback


def _methods(view: Any) -> frozenset[str] | None:
    kind = getattr(view, "cls", None)  # Django REST framework's; other classes just look
    return frozenset(name.upper() for name in METHODS if hasattr(kind, name)) if kind else None

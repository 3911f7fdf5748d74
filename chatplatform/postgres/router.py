"""Sends each model to its home. django-tenants decides per app; our apps have tables in both homes."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from chatplatform.tenancy import Home, current_scope, scope_or_none

FIRST_PARTY = {"tenants", "conversations", "experiments", "billing", "analytics"}
# Models that are no more, but that migrations still name.
FORMER = {"tenants.stafflook": Home.SHARED}


def home_of(model: type[Model]) -> Home:
    """The home that a model declares; packages that know nothing of homes are shared."""
    return getattr(model, "home", Home.SHARED)


class HomeRouter:
    """Django's database router: which database for a query, which tables in a migration."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        if home_of(model) is Home.SHARED:
            return None
        tenant = current_scope().tenant
        return tenant.database if tenant else None

    db_for_write = db_for_read

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool:
        return home_of(type(one)) is home_of(type(other))

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        """Whether an operation belongs in the schema that is being migrated.

        An operation on a model follows the model. One that names none (RunPython, RunSQL) must say its home in
        its hints: `hints={"home": "tenant"}`.
        """
        scope = scope_or_none()
        if scope is None:
            return False  # makemigrations asks this to learn whether to look at a database: it need not
        wanted = Home.TENANT if scope.tenant else Home.SHARED
        return self._home(app_label, model_name, hints) is wanted

    def _home(self, app_label: str, model_name: str | None, hints: dict[str, Any]) -> Home:
        if "home" in hints:
            return Home(hints["home"])
        if app_label not in FIRST_PARTY:
            return Home.SHARED
        if model_name is None:
            raise ImproperlyConfigured(
                f"A migration of {app_label} names no model: give it hints={{'home': …}}."
            )
        former = FORMER.get(f"{app_label}.{model_name}")
        return former or home_of(apps.get_model(app_label, model_name))

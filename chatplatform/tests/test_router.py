"""Each model has one home, and stays there."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models import ForeignKey, Model

from chatplatform import tenancy
from chatplatform.postgres.router import FIRST_PARTY, HomeRouter, home_of
from chatplatform.tenancy import Home, NoTenant
from conversations.models import Conversation, Work
from tenants.models import Contact, Tenant
from tenants.selectors import TenantState

router = HomeRouter()
OURS = [model for model in apps.get_models() if model._meta.app_label in FIRST_PARTY]


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_model_of_ours_says_its_home(model: type[Model]) -> None:
    assert isinstance(getattr(model, "home", None), Home)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_no_foreign_key_crosses_the_homes(model: type[Model]) -> None:
    keys = [field for field in model._meta.get_fields() if isinstance(field, ForeignKey)]
    for field in keys:
        assert home_of(field.related_model) is home_of(model), field.name


def test_the_tables_of_a_tenant_stay_few() -> None:
    tables = [model for model in OURS if home_of(model) is Home.TENANT]
    assert 5 < len(tables) <= 30


def test_a_query_of_the_data_plane_needs_a_context() -> None:
    with pytest.raises(NoTenant):
        router.db_for_read(Contact)
    assert router.db_for_read(Tenant) is None


def test_a_tenants_rows_are_in_its_database(acme: TenantState) -> None:
    with tenancy.in_tenant(acme.ref):
        assert router.db_for_write(Contact) == acme.ref.database


def test_relations_stay_within_a_home() -> None:
    assert router.allow_relation(Contact(), Conversation())
    assert router.allow_relation(Tenant(), Work())
    assert not router.allow_relation(Contact(), Tenant())


def test_a_migration_takes_a_model_to_its_home_only(acme: TenantState) -> None:
    with tenancy.in_tenant(acme.ref):
        assert router.allow_migrate("admin", "tenants", "contact")
        assert not router.allow_migrate("admin", "tenants", "tenant")
        assert not router.allow_migrate("admin", "auth", "group")
    with tenancy.in_platform():
        assert router.allow_migrate("admin", "tenants", "tenant")
        assert router.allow_migrate("admin", "sessions", "session")
        assert not router.allow_migrate("admin", "conversations", "conversation")
    assert not router.allow_migrate("admin", "tenants", "tenant")


def test_an_operation_without_a_model_must_say_its_home() -> None:
    with tenancy.in_platform():
        assert router.allow_migrate("admin", "tenants", home="shared")
        assert not router.allow_migrate("admin", "tenants", home="tenant")
        with pytest.raises(ImproperlyConfigured):
            router.allow_migrate("admin", "tenants")

"""The check finds nothing wrong here, and finds each hole that is made on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from django.conf import settings
from django.test import override_settings

from chatplatform import tenancy
from chatplatform.celery import app
from chatplatform.management.isolation import surface
from chatplatform.management.isolation.check import UNTAUGHT, WALKS, Check
from chatplatform.management.tests import holes
from tenants.models import IsolationReport, Tenant

pytestmark = pytest.mark.slow


@pytest.fixture
def found(committed: None) -> Iterator[set[tuple[str, str]]]:
    """What a check of the holes alone finds: where, and the last words of it."""
    holes.plant_task()
    try:
        with override_settings(ROOT_URLCONF=holes.__name__):
            routes = [one for one in surface.routes() if one.pattern.startswith("holes/")]
            report = Check(walks=(*WALKS, holes.WALKS), routes=lambda: routes).run()
        yield {(one["where"], one["what"].rpartition(": ")[2]) for one in report["findings"]}
    finally:
        app.tasks.unregister(holes.TASK)
        with redis.Redis.from_url(settings.CACHE_URL) as cache:
            cache.delete("newest-conversation")


def test_it_finds_the_holes(found: set[tuple[str, str]]) -> None:
    stolen = "SHOWS WHAT IS THE OTHER'S"
    assert ("GET a tenant's /holes/unscoped/<uuid:conversation_id>", stolen) in found
    assert ("GET a tenant's /holes/remembered", stolen) in found
    assert ("key newest-conversation", "holds what is a tenant's, and is not that tenant's key") in found
    assert ("GET a tenant's /holes/raw/<slug:slug>", stolen) in found
    assert ("routes: a tenant's /holes/untaught", UNTAUGHT) in found
    assert (f"task {holes.TASK}", "nothing enters its tenant for it") in found


def test_it_walks_everything_and_finds_nothing_wrong(committed: None) -> None:
    report = Check().run()
    assert report["findings"] == []
    kinds = {"routes", "sockets", "tasks", "commands", "searches", "keys", "sealed columns"}
    assert set(report["walked"]) == kinds
    for kind in report["walked"].values():
        assert kind["walked"] == kind["found"] > 0
    with tenancy.in_platform():
        assert IsolationReport.objects.latest("began_at").report == report
        assert not Tenant.objects.filter(slug__startswith="isolation-").exists()

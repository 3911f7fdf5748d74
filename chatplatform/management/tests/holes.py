"""Holes, such as people make: the URLs of a tenant's host with some that let out what is another's."""

from __future__ import annotations

from uuid import UUID

import redis
from celery import Task, shared_task
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from chatplatform import tenancy
from chatplatform.isolation import Call, Job, Planted, Walks, Who
from chatplatform.urls import urlpatterns as good
from conversations.models import Conversation
from tenants.models import Tenant

TASK = "holes.forget"
BY_VISITOR = (Call(Who.VISITOR, shows=True),)


def unscoped(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """A conversation of whomever it is."""
    with tenancy.in_platform():
        tenants = list(Tenant.objects.all())
    for tenant in tenants:
        with tenancy.staff_view(tenant.ref):
            if found := Conversation.objects.filter(pk=conversation_id).first():
                return HttpResponse(str(found.metadata))
    return HttpResponse(status=404)


def remembered(request: HttpRequest) -> HttpResponse:
    """The newest conversation, kept under a name that every tenant shares."""
    with redis.Redis.from_url(settings.CACHE_URL) as cache:
        kept = cache.get("newest-conversation")
        if kept is None:
            kept = str(Conversation.objects.latest("id").metadata).encode()
            cache.set("newest-conversation", kept, ex=60)
    return HttpResponse(kept)


def raw(request: HttpRequest, slug: str) -> HttpResponse:
    """SQL that names a schema, where it may."""
    with tenancy.in_platform(), connection.cursor() as cursor:
        schema = Tenant.objects.get(slug=slug).schema_name
        cursor.execute(f"SELECT metadata FROM {schema}.conversations_conversation")
        return HttpResponse(str(cursor.fetchall()))


def untaught(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Nobody knows me")


def forget() -> None:
    """A task that runs on `public`: its class enters nothing."""


def plant_task() -> None:
    shared_task(name=TASK, base=Task)(forget)


def plant(tenant: Planted) -> None:
    """Nothing."""


bad = [
    path("holes/unscoped/<uuid:conversation_id>", unscoped),
    path("holes/remembered", remembered),
    path("holes/raw/<slug:slug>", raw),
    path("holes/untaught", untaught),
]
urlpatterns = [*good, *bad]
WALKS = Walks(
    plant,
    pages={
        "holes/unscoped/<uuid:conversation_id>": BY_VISITOR,
        "holes/remembered": BY_VISITOR,
        "holes/raw/<slug:slug>": BY_VISITOR,
    },
    tasks={TASK: Job(("conversation_id",), of_tenant=True)},
)

"""Runs in this process what the walk enqueues, so that no worker is needed and nothing is left in a queue."""

from __future__ import annotations

import io
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from threading import Lock
from typing import Any
from zipfile import ZipFile

from django.core.management import call_command
from django.core.management.base import CommandError

from chatplatform import jobs, tenancy
from chatplatform.celery import app
from chatplatform.isolation import Command, Job, Planted
from chatplatform.management.isolation import surface
from chatplatform.management.isolation.walk import PLANTED, Findings, filled
from chatplatform.tenancy import TenantRef

WORKERS = 4
PATIENCE = 60.0  # s


class Workers:
    """Takes jobs and runs each at once, in a thread and a context of its own."""

    def __init__(self, findings: Findings) -> None:
        self.findings, self.tasks = findings, surface.tasks(app)
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="isolation")
        self._running: list[Future[Any]] = []
        self._lock = Lock()

    def take(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run a job in the background."""
        with self._lock:
            self._running.append(self._threads.submit(Context().run, self._run, name, args, kwargs))

    def finish(self) -> None:
        """Wait for what was taken, and for what that has enqueued."""
        while self._running:
            with self._lock:
                running, self._running = self._running, []
            for one in running:
                one.result(PATIENCE)

    def _run(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with jobs.taken_by(self.take):
            try:
                self.tasks[name](*args, **kwargs)
            except Exception as error:
                self.findings.add(
                    f"task {name}", f"failed in the background: {type(error).__name__}: {error}"
                )


def walk(name: str, task: Any, job: Job, own: Planted, other: Planted, findings: Findings) -> None:
    """Run a task: for its own tenant, with the other's identifiers, and without a tenant."""
    base = jobs.TenantTask if job.of_tenant else jobs.PlatformTask
    if not isinstance(task, base) or (not job.of_tenant and isinstance(task, jobs.TenantTask)):
        findings.add(f"task {name}", f"is not a {base.__name__}: nothing enters its tenant for it")
        return
    args, others = ([one.ids.get(name, name) for name in job.args] for one in (own, other))
    sent = _sent(own.ref) if job.of_tenant else {}
    if error := _failure(task, args, sent):
        findings.add(f"task {name}", f"does not work for its own tenant: {error}")
    if not job.of_tenant:
        return
    if not isinstance(_failure(task, args, {}), tenancy.NoTenant):
        findings.add(f"task {name}", "runs without a tenant")
    error = _failure(task, others, sent)
    if job.fails_for_others and error is None:
        findings.add(f"task {name}", "works with the other's identifiers")


def _failure(task: Any, args: list[str], kwargs: dict[str, Any]) -> BaseException | None:
    try:
        Context().run(task, *args, **kwargs)
    except Exception as error:
        return error
    return None


def _sent(tenant: TenantRef) -> dict[str, Any]:
    """The tenant as a message carries it."""
    return {
        "tenant": {
            "id": str(tenant.id),
            "slug": tenant.slug,
            "schema": tenant.schema,
            "database": tenant.database,
        }
    }


def walk_command(name: str, how: Command, own: Planted, other: Planted, findings: Findings) -> None:
    """Run a command with the tenant's own identifiers, and with the other's beside the first."""
    ids, where = {**own.known(), "canary": own.canary}, f"command {name}"
    try:
        said = _said(name, how, ids)
    except CommandError as error:
        findings.add(where, f"does not work for its own tenant: {error}")
        return
    if how.shows and own.canary not in said:
        findings.add(where, "does not show what was planted")
    if other.canary in said and not how.everybody:
        findings.add(where, "SHOWS WHAT IS THE OTHER'S")
    if how.fails_for_others:
        first = PLANTED.findall(" ".join(how.arguments))[0]
        try:
            _said(name, how, {**other.known(), first: ids[first]})
            findings.add(where, "works with the other's identifiers")
        except CommandError:
            pass


def _said(name: str, how: Command, ids: Mapping[str, str]) -> str:
    """What a command prints, and what is in the archive that it writes. Raises CommandError."""
    said = io.StringIO()
    try:
        call_command(name, *(filled(one, ids) for one in how.arguments), "--json", stdout=said, stderr=said)
    except CommandError:
        if not how.everybody:
            raise
    if how.writes:
        with ZipFile(filled(how.writes, ids)) as archive:
            said.writelines(archive.read(member).decode() for member in archive.namelist())
    return said.getvalue()

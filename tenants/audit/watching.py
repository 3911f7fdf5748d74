"""Records what no service of ours does: sign-ins, staff accounts and groups, and whatever the console's pages change.

By Django's signals, so that no page and no command can forget it.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save

from tenants.audit.keys import digest
from tenants.audit.recording import record
from tenants.models import ApiKey, Domain, SigningKey, Tenant, TokenIssuer, User
from tenants.vocabulary import ActorKind, AuditAction

ADDED = {User: AuditAction.STAFF_ADDED, Group: AuditAction.GROUP_ADDED}
CHANGED = {User: AuditAction.STAFF_CHANGED, Group: AuditAction.GROUP_CHANGED}
REMOVED = {User: AuditAction.STAFF_REMOVED, Group: AuditAction.GROUP_REMOVED}
PLAIN = {"is_active", "is_staff", "is_superuser"}  # all else of an account is personal, or a secret
SELF_MADE = {"last_login"}  # each sign-in changes it, and is recorded itself
IN_CONSOLE = {
    ADDITION: AuditAction.CONSOLE_ADDED,
    CHANGE: AuditAction.CONSOLE_CHANGED,
    DELETION: AuditAction.CONSOLE_REMOVED,
}
BY_SERVICES = (
    User,
    Group,
    Tenant,
    Domain,
    ApiKey,
    SigningKey,
    TokenIssuer,
)  # their changes are recorded where they are made


def watch() -> None:
    """Connect all of it; once, when Django starts."""
    user_logged_in.connect(_signed_in)
    user_logged_out.connect(_signed_out)
    user_login_failed.connect(_not_signed_in)
    for model in ADDED:
        pre_save.connect(_remember, sender=model)
        post_save.connect(_saved, sender=model)
        post_delete.connect(_deleted, sender=model)
    for through in (User.groups.through, User.user_permissions.through, Group.permissions.through):
        m2m_changed.connect(_related, sender=through)
    post_save.connect(_in_console, sender=LogEntry)


def _signed_in(sender: Any, user: Any, **_: Any) -> None:
    record(AuditAction.STAFF_SIGNED_IN, user.pk, actor=(ActorKind.STAFF, str(user.pk)))


def _signed_out(sender: Any, user: Any, **_: Any) -> None:
    if user is not None:
        record(AuditAction.STAFF_SIGNED_OUT, user.pk, actor=(ActorKind.STAFF, str(user.pk)))


def _not_signed_in(sender: Any, credentials: dict[str, Any], **_: Any) -> None:
    # People type passwords into the wrong field: what was typed is kept as a digest, whose account it is as its id.
    typed = str(credentials.get("username", ""))
    known = User.objects.filter(username=typed).values_list("id", flat=True).first()
    record(AuditAction.STAFF_SIGN_IN_FAILED, known or "", actor=(ActorKind.NOBODY, ""), typed=digest(typed))


def _remember(sender: type[Model], instance: Any, **_: Any) -> None:
    instance._was = sender._default_manager.filter(pk=instance.pk).values().first()


def _saved(sender: type[Model], instance: Any, created: bool, update_fields: Any = None, **_: Any) -> None:
    was: dict[str, Any] = instance._was or {}
    if created or not was:
        record(
            ADDED[sender], instance.pk, **{name: getattr(instance, name) for name in PLAIN & _columns(sender)}
        )
        return
    written = set(update_fields or was) & set(was)
    changed = sorted(name for name in written - SELF_MADE if was[name] != getattr(instance, name))
    if changed:
        plain: dict[str, Any] = {
            name: [was[name], getattr(instance, name)] for name in changed if name in PLAIN
        }
        record(CHANGED[sender], instance.pk, fields=changed, **plain)


def _deleted(sender: type[Model], instance: Any, **_: Any) -> None:
    record(REMOVED[sender], instance.pk)


def _related(
    sender: Any, instance: Any, action: str, reverse: bool, model: Any, pk_set: Any, **_: Any
) -> None:
    """Groups and permissions that were given or taken. They are no personal data, and are what matters most."""
    done = {"post_add": "given", "post_remove": "taken", "pre_clear": "taken"}.get(action)
    if done is None:
        return
    if action == "pre_clear":
        field = next(one for one in instance._meta.many_to_many if one.remote_field.through is sender)
        pk_set = set(getattr(instance, field.name).values_list("pk", flat=True))
    # From the other side (`group.user_set.add`) each of the others is what was changed.
    changed = model._default_manager.filter(pk__in=pk_set) if reverse else [instance]
    what: dict[str, Any] = {done: _named(type(instance), {instance.pk}) if reverse else _named(model, pk_set)}
    for one in changed if pk_set else ():
        record(CHANGED[type(one)], one.pk, **what)


def _named(model: Any, keys: set[Any]) -> list[str]:
    if model is Permission:
        found = Permission.objects.filter(pk__in=keys).values_list("content_type__app_label", "codename")
        return sorted(f"{app}.{name}" for app, name in found)
    return sorted(f"group {key}" for key in keys)


def _in_console(sender: Any, instance: LogEntry, created: bool, **_: Any) -> None:
    kind = instance.content_type
    model = kind.model_class() if kind else None
    if not created or model is None or issubclass(model, BY_SERVICES):
        return
    record(
        IN_CONSOLE[instance.action_flag],
        instance.object_id,
        kind=model._meta.label_lower,
        fields=_fields(instance.change_message),
    )


def _fields(message: str) -> list[str]:
    """The names of the fields that a form changed, out of what Django notes of it."""
    try:
        parts = json.loads(message)
    except ValueError:
        return []
    found = [part.get("changed", {}).get("fields", []) for part in parts if isinstance(part, dict)]
    return [str(name) for names in found for name in names]


def _columns(model: type[Model]) -> set[str]:
    return {field.name for field in model._meta.concrete_fields}

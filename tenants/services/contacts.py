"""Contacts: the end users of a tenant, as its backends name them."""

from __future__ import annotations

from typing import Any

from tenants.models import Contact


def contact_for(external_id: str, **details: Any) -> Contact:
    """The contact with this external id, made if it is new, with what is told of it now."""
    contact, made = Contact.objects.get_or_create(external_id=external_id, defaults=details)
    changed = {name: value for name, value in details.items() if getattr(contact, name) != value}
    if changed and not made:
        for name, value in changed.items():
            setattr(contact, name, value)
        contact.save(update_fields=[*changed, "updated_at"])
    return contact

"""The one field type for text that people wrote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models.query_utils import DeferredAttribute

from tenants import secrets


class Stored(bytes):
    """A sealed text as the table has it. `values_list` gives these: only an instance knows its row, and can open it."""


@dataclass(frozen=True, slots=True)
class ToSeal:
    """A text on its way into the table."""

    text: str
    row: object
    owner: UUID | None


class SealedAttribute(DeferredAttribute):
    """Opens what comes from the table; the primary key is set before, as it is the first field."""

    field: SealedTextField

    def __set__(self, instance: models.Model, value: Any) -> None:
        if isinstance(value, Stored):
            value = self.field.opened(value, instance.pk)
        instance.__dict__[self.field.attname] = value


class SealedTextField(models.BinaryField):  # type: ignore[type-arg]
    """Text in Python, sealed bytes in the table (see `tenants.secrets`). Not searchable in SQL.

    A model whose texts go with a contact says whose they are: `key_owner`, the contact's id. Only instances are
    written: `update(field="text")` knows no row, and is refused.
    """

    description = "Sealed text"
    descriptor_class = SealedAttribute

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("editable", False)
        super().__init__(*args, **kwargs)

    @cached_property
    def place(self) -> bytes:
        """What a text is bound to, beside its tenant and row: `table.column`."""
        return f"{self.model._meta.db_table}.{self.column}".encode()

    def sealed(self, text: str, row: object, owner: UUID | None) -> Stored:
        """What to store for a text of this row. Raises secrets.UnknownKey."""
        return Stored(secrets.seal(text, self.place, row, owner))

    def opened(self, stored: bytes, row: object) -> str:
        """The text that this row has. Raises secrets.UnknownKey, secrets.Tampered."""
        return secrets.open_sealed(stored, self.place, row)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        text = getattr(model_instance, self.attname)
        if not isinstance(text, str):
            return text
        row = self.model._meta.pk.to_python(model_instance.pk)  # as it will be read
        return ToSeal(text, row, getattr(model_instance, "key_owner", None))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if isinstance(value, ToSeal):
            value = self.sealed(value.text, value.row, value.owner)
        elif value == "":
            value = Stored(secrets.IN_THE_CLEAR)
        elif isinstance(value, str):
            raise TypeError("Sealed text is written with its row: save an instance.")
        return super().get_db_prep_value(value, connection, prepared)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Stored | None:
        return None if value is None else Stored(value)

    def _check_str_default_value(self) -> list[Any]:
        return []  # a text default is just right here

    def get_default(self) -> Any:
        return self.default if self.has_default() else ""

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))

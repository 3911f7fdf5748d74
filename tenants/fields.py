"""The one field type for text that people wrote."""

from __future__ import annotations

from typing import Any

from django.db import models

from tenants import secrets


class SealedTextField(models.BinaryField):  # type: ignore[type-arg]
    """Text in Python, sealed bytes with a key id in the table (see `tenants.secrets`). Not searchable in SQL."""

    description = "Sealed text"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("editable", False)
        super().__init__(*args, **kwargs)

    def _check_str_default_value(self) -> list[Any]:
        return []  # a text default is just right here

    def get_default(self) -> Any:
        return self.default if self.has_default() else ""

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        sealed = None if value is None else secrets.seal(value)
        return super().get_db_prep_value(sealed, connection, prepared)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> str | None:
        return None if value is None else secrets.open_sealed(bytes(value))

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))

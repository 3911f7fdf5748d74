"""Serializer fields that take JSON at its word: a number is no text, `"5"` is no number, 1 is not true."""

from __future__ import annotations

from typing import Any

import orjson
from rest_framework import serializers


class Text(serializers.CharField):
    """A JSON string without control characters, kept as it is."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Must be text.")
        try:
            data.encode()
        except UnicodeEncodeError as error:
            raise serializers.ValidationError("Holds half of a surrogate pair.") from error
        return super().to_internal_value(data)


class Identifier(serializers.UUIDField):
    """A UUID as a JSON string."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            raise serializers.ValidationError("Must be text.")
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """A JSON number without a fraction."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("Must be a whole number.")
        return super().to_internal_value(data)


class Number(serializers.FloatField):
    """A JSON number."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise serializers.ValidationError("Must be a number.")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("Must be true or false.")
        return data


class Object(serializers.JSONField):
    """A JSON object of at most 16,000 bytes."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be an object.")
        if len(orjson.dumps(data)) > 16_000:
            raise serializers.ValidationError("Must not be larger than 16,000 bytes.")
        if "\\u0000" in orjson.dumps(data).decode():
            raise serializers.ValidationError("Must not hold NUL characters.")
        return data

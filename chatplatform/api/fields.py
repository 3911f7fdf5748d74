"""Serializer fields that take JSON at its word: a number is no text, `"5"` is no number, 1 is not true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from chatplatform.api.problem import invalid

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
NOT_ONE_LINE = "Must be one line without control characters."


def one_line(field: str, text: str) -> str:
    """The text, if it is one line without control characters. Raises Problem `invalid_request`."""
    if CONTROL.search(text):
        raise invalid(field, NOT_ONE_LINE)
    return text


class Text(serializers.CharField):
    """A JSON string without NUL characters, kept as it is."""

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


class Line(Text):
    """A JSON string of one line, without control characters: names, which end up in headers of mails."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if CONTROL.search(text):
            raise serializers.ValidationError(NOT_ONE_LINE)
        return text


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
class Names(serializers.ListField):
    """A name, or a list of at most ten."""

    child = Line(max_length=200)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=10, **kwargs)

    def to_internal_value(self, data: Any) -> list[Any]:
        return super().to_internal_value([data] if isinstance(data, str) else data)


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
        if any("\0" in text for text in _texts(data)):
            raise serializers.ValidationError("Must not hold NUL characters.")
        return data


def _texts(value: Any) -> Iterator[str]:
    """All keys and texts inside a JSON value."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            left += one

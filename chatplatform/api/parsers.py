"""Reads request bodies: what is not JSON is 400, what is too long is 413."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.http import RawPostDataException
from rest_framework import parsers
from rest_framework.exceptions import ParseError

from chatplatform.api.problem import Code, Problem

LARGEST = 1_000_000


class JSONParser(parsers.JSONParser):
    """JSON by orjson, which refuses what RFC 8259 refuses: NaN, lone surrogates, broken UTF-8."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            body = stream.read(LARGEST + 1)
        except RawPostDataException as error:
            raise ParseError("The body cannot be read.") from error
        if len(body) > LARGEST:
            raise Problem(Code.TOO_LARGE, f"A request's body may have {LARGEST:,} bytes.")
        try:
            value = orjson.loads(body or b"{}")
            orjson.dumps(value)  # nested too deeply to be written again
        except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
            raise ParseError(f"The body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise Problem(Code.INVALID_REQUEST, "The body must be a JSON object.", errors=[])
        return value

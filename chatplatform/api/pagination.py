"""Cursor pagination (CONTRACT §5): `{next, previous, results}`, 50 a page, at most 200."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

from chatplatform.api.problem import invalid

LONGEST = 18  # digits of a number; Python itself refuses to read 4,300


class Pages(CursorPagination):
    """Pages over a queryset, mostly by id; version 7 ids are in order of creation."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"

    def __init__(self, ordering: str | tuple[str, ...]) -> None:
        self.ordering = ordering

    def get_page_size(self, request: Request) -> int:
        raw = request.query_params.get(self.page_size_query_param)
        if raw is None:
            return self.page_size
        if not raw.isdecimal() or len(raw) > LONGEST or int(raw) < 1:
            raise invalid("page_size", "A whole number from 1 to 200.")
        return min(int(raw), self.max_page_size)

    def decode_cursor(self, request: Request) -> Any:
        try:
            return super().decode_cursor(request)
        except NotFound as error:
            raise invalid("cursor", "This is no cursor of this list.") from error

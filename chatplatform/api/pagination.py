"""Cursor pagination (CONTRACT §5): `{next, previous, results}`, 50 a page, at most 200."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from chatplatform.api.problem import invalid

PAGE = [
    OpenApiParameter("cursor", str, description="From `next` or `previous`"),
    OpenApiParameter("page_size", int, description="1 to 200, default 50"),
]
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


def paginated(
    request: Request, rows: Any, ordering: str | tuple[str, ...], shape: Callable[[Any], dict[str, Any]]
) -> Response:
    """The page of these rows that the request asks for, each in its public shape."""
    pages = Pages(ordering)
    page: Any = pages.paginate_queryset(rows, request)
    return pages.get_paginated_response([shape(row) for row in page or []])

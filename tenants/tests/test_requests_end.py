"""Requests go with their last user: nothing is left for Python's collector to find."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import AsyncRequestFactory
from rest_framework.request import Request
from rest_framework.response import Response

from chatplatform.api.problem import Code, Problem
from chatplatform.api.renderers import JSONRenderer
from tenants.api.base import AsyncApiView


class Answering(AsyncApiView):
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    renderer_classes = [JSONRenderer]

    @contextmanager
    def scope(self) -> Iterator[None]:
        yield

    async def get(self, request: Request) -> Response:
        return Response({"a": 1})

    async def post(self, request: Request) -> HttpResponse:
        if not request.data:
            raise Problem(Code.NOT_FOUND)
        return HttpResponse(b"{}")


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("get", "", 200),
        ("head", "", 200),
        ("options", "", 200),
        ("post", '{"a": 1}', 200),
        ("post", "{}", 404),
    ],
)
async def test_a_request_is_gone_once_it_is_answered(method: str, body: str, status: int) -> None:
    request = getattr(AsyncRequestFactory(), method)("/", body, content_type="application/json")
    left = weakref.ref(request)
    gc.disable()
    try:
        answer = await Answering.as_view()(request)
        assert answer.status_code == status
        del request, answer
        assert left() is None
    finally:
        gc.enable()

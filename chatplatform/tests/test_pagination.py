"""Cursor pagination over a real list."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from chatplatform.api.pagination import Pages
from chatplatform.api.problem import Problem
from tenants.models import Contact
from tenants.selectors import TenantState


def page(query: str = "", ordering: str = "id") -> Any:
    """One page of the contacts with the name "paged"."""
    pages = Pages(ordering)
    request = Request(APIRequestFactory().get(query or "/list"))
    rows: Any = pages.paginate_queryset(Contact.objects.filter(name="paged"), request)
    return pages.get_paginated_response([row.external_id for row in rows]).data


@pytest.fixture
def many(in_acme: TenantState) -> None:
    Contact.objects.bulk_create(Contact(name="paged", external_id=f"{i:03}") for i in range(230))


def test_a_page_has_next_previous_and_results(many: None) -> None:
    first = page()
    assert set(first) == {"next", "previous", "results"}
    assert (len(first["results"]), first["previous"]) == (50, None)


def test_following_next_meets_everything_once_and_in_order(many: None) -> None:
    found, shown = [], page("/list?page_size=60")
    while True:
        found += shown["results"]
        if shown["next"] is None:
            break
        shown = page(shown["next"])
    assert found == [f"{i:03}" for i in range(230)]


def test_previous_leads_back(many: None) -> None:
    second = page(page()["next"])
    assert page(second["previous"])["results"] == page()["results"]


def test_newest_first_is_the_other_way_round(many: None) -> None:
    assert page(ordering="-id")["results"][0] == "229"


def test_a_page_has_at_most_200(many: None) -> None:
    assert len(page("/list?page_size=1000")["results"]) == 200


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0",
        "page_size=-1",
        "page_size=x",
        "page_size=",
        "page_size=" + "9" * 5000,
        "cursor=nonsense",
    ],
)
def test_a_wrong_page_is_refused(in_acme: TenantState, query: str) -> None:
    with pytest.raises(Problem):
        page(f"/list?{query}")

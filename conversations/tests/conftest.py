"""Fixtures that more than one file of tests needs."""

from __future__ import annotations

from conversations.tests.spending import shared, simulator, tenant  # noqa: F401 (fixtures)

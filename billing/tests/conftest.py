from __future__ import annotations

from collections.abc import Iterator

import pytest

from billing import pricing


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Prices that a test wrote are rolled back; so is what this process keeps of them."""
    yield
    pricing.forget()

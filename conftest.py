"""The cast and the stage of all tests.

One PostgreSQL and one Valkey per run, migrated once; two tenants, Acme and Globex, made once; a transaction per test.
`live` is the platform as real processes: web server, worker, and the provider simulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.conf import settings

from chatplatform import embedded, tenancy
from chatplatform.testing.clients import Caller
from chatplatform.testing.live import Live, running_platform
from tenants.selectors import TenantState

if TYPE_CHECKING:
    from chatplatform.testing.browser import Browser


@pytest.fixture(scope="session")
def servers() -> Iterator[embedded.Servers]:
    """A PostgreSQL and a Valkey of this run's own."""
    with embedded.ensure(settings.DATA_DIR) as running:
        yield running


@pytest.fixture(scope="session")
def django_db_setup(servers: embedded.Servers, django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Replaces pytest-django's: the database is this run's own, and has two tenants in it."""
    from django.db import connections

    from chatplatform.testing import cast

    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        cast.prepare()
        yield
        for connection in connections.all():
            connection.close()
        connections["default"].close_pool()  # type: ignore[attr-defined]


@pytest.fixture
def acme(db: None) -> TenantState:
    """The first tenant."""
    from chatplatform.testing import cast

    return cast.state("acme")


@pytest.fixture
def globex(db: None) -> TenantState:
    """The second tenant, which must never be seen from the first."""
    from chatplatform.testing import cast

    return cast.state("globex")


@pytest.fixture
def everything_included(db: None) -> Iterator[None]:
    """Both tenants have a plan that includes every feature."""
    from chatplatform.testing import cast
    from tenants.vocabulary import Tier

    with cast.on_tier("acme", Tier.ENTERPRISE), cast.on_tier("globex", Tier.ENTERPRISE):
        yield


@pytest.fixture
def in_acme(acme: TenantState) -> Iterator[TenantState]:
    """Inside the first tenant."""
    with tenancy.in_tenant(acme.ref):
        yield acme


@pytest.fixture(scope="session")
def live(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[Live]:
    """The platform as real processes, with its own keys for both tenants."""
    with django_db_blocker.unblock(), running_platform() as platform:  # type: ignore[attr-defined]
        yield platform


@pytest.fixture(scope="session")
def only_chromium() -> Iterator[Browser]:
    from chatplatform.testing.browser import running_browser

    with running_browser() as browser:
        yield browser


@pytest.fixture
def chromium(only_chromium: Browser) -> Browser:
    """A real browser, of a visitor who has not been here before."""
    only_chromium.forget()
    only_chromium.complaints()
    return only_chromium


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """The database outside a test's transaction: what is written stays, and other threads and processes see it."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        yield


@pytest.fixture(scope="session")
def acme_api(live: Live) -> Caller:
    """Acme's own key, with all scopes of a tenant."""
    return Caller(live, live.keys["acme"])


@pytest.fixture(scope="session")
def globex_api(live: Live) -> Caller:
    """Globex's own key, with all scopes of a tenant."""
    return Caller(live, live.keys["globex"])


@pytest.fixture(scope="session")
def staff_api(live: Live) -> Caller:
    """A platform key."""
    return Caller(live, live.platform_key)

"""An outage, as the callers of one process see it."""

from __future__ import annotations

from chatplatform.resilience.availability import Availability


def test_an_outage_is_noticed_once_and_asked_about_once_in_a_while() -> None:
    now = [100.0]
    server = Availability(1.5, lambda: now[0])
    assert [server.may_try() for _ in range(3)] == [True] * 3
    assert [server.failed(), server.failed()] == [True, False]
    assert not server.may_try()
    now[0] += 1.4
    assert not server.may_try()
    now[0] += 0.2
    assert [server.may_try() for _ in range(4)] == [True, False, False, False]
    assert not server.failed()
    now[0] += 1.6
    assert server.may_try()
    assert [server.answered(), server.answered()] == [True, False]
    assert [server.may_try() for _ in range(3)] == [True] * 3
    assert server.failed()

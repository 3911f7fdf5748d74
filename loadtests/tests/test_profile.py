"""Reading a profile."""

from __future__ import annotations

from loadtests.profile import summed_up

LINES = """\
main (runpy.py:1);run (asyncio/base.py:5);take (conversations/streaming/hub.py:10);loads (json/decoder.py:3) 6
main (runpy.py:1);run (asyncio/base.py:5);take (conversations/streaming/hub.py:12) 2
main (runpy.py:1);run (asyncio/base.py:5);read (redis/asyncio/connection.py:3) 2
main (runpy.py:1);run (asyncio/base.py:5);EpollSelector.select (selectors.py:468) 90
"""


def test_time_in_libraries_belongs_to_the_function_of_ours_that_called_them() -> None:
    found = summed_up(LINES.splitlines())
    assert found["samples"] == 10
    assert found["own"] == [
        ("take (conversations/streaming/hub.py)", 0.8),
        ("not ours: read (redis/asyncio/connection.py)", 0.2),
    ]
    assert found["self"][0] == ("loads (json/decoder.py)", 0.6)

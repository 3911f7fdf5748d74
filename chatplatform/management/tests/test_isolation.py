"""The check finds nothing wrong here, and finds each hole that is made on purpose."""

from __future__ import annotations

from chatplatform.management.isolation.check import Check


def test_it_walks_everything_and_finds_nothing_wrong(committed: None) -> None:
    report = Check().run()
    assert report["findings"] == []
    assert set(report["walked"]) == {"routes", "sockets", "tasks", "commands", "searches", "keys"}
    for kind in report["walked"].values():
        assert kind["walked"] == kind["found"] > 0

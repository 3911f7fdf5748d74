"""What a process keeps of the database for some seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from chatplatform import kept
from chatplatform.kept import MEANWHILE, Kept

SECONDS = 4.0


class Table:
    """Something that can change, a clock, and who asked what."""

    def __init__(self) -> None:
        self.now, self.value, self.asked = 1000.0, 1, list[str]()
        self.on_mark: Callable[[], None] = lambda: None

    def mark(self, key: str) -> object:
        self.asked.append("mark")
        found = self.value
        self.on_mark()
        return found

    def load(self, key: str) -> tuple[str, int]:
        self.asked.append("load")
        return key, self.value

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table()
    monkeypatch.setattr(kept, "time", made)
    return made


@pytest.fixture
def values(table: Table) -> Kept[str, tuple[str, int]]:
    return Kept(SECONDS, 2, table.mark, table.load)


def test_it_is_read_again_only_if_it_has_changed(table: Table, values: Kept[str, tuple[str, int]]) -> None:
    assert values.get("a") is None
    first = values.read("a")
    assert values.get("a") is first
    table.now += SECONDS - MEANWHILE
    assert values.get("a") is None
    assert values.read("a") is values.get("a") is first
    assert table.asked == ["mark", "load", "mark"]
    table.value = 2
    assert values.read("a") == ("a", 2)


def test_a_change_between_mark_and_value_is_seen_the_next_time(
    table: Table, values: Kept[str, tuple[str, int]]
) -> None:
    def change() -> None:
        table.value = 2

    table.on_mark = change
    assert values.read("a") == ("a", 2)
    values.read("a")
    assert table.asked == ["mark", "load"] * 2


def test_others_go_on_with_it_while_one_asks_but_never_for_longer_than_promised(
    table: Table, values: Kept[str, tuple[str, int]]
) -> None:
    first = values.read("a")
    seen = list[object]()

    def look() -> None:
        thread = threading.Thread(target=lambda: seen.append(values.get("a")))
        thread.start()
        thread.join()

    table.on_mark = look
    table.now += SECONDS - MEANWHILE
    values.read("a")
    table.now += SECONDS
    values.read("a")
    assert seen == [first, None]


def test_who_cannot_be_asked_leaves_what_is_kept_to_grow_old(
    table: Table, values: Kept[str, tuple[str, int]]
) -> None:
    values.read("a")

    def fail() -> None:
        raise OSError

    table.on_mark = fail
    for _ in range(20):
        table.now += MEANWHILE
        if values.get("a") is None:
            with pytest.raises(OSError):
                values.read("a")
    assert values.get("a") is None
    assert values.last("a") == ("a", 1)


def test_the_oldest_make_room_and_one_or_all_are_forgotten(
    table: Table, values: Kept[str, tuple[str, int]]
) -> None:
    for key in "abc":
        values.read(key)
    assert [values.get(key) is None for key in "abc"] == [True, False, False]
    values.make_old("b")
    assert values.get("b") is None
    assert values.last("b") is not None
    values.forget("b")
    assert values.last("b") is None
    values.forget()
    assert values.last("c") is None


def test_what_is_not_there_is_not_kept(table: Table) -> None:
    there = {"a"}
    values: Kept[str, str | None] = Kept(
        SECONDS, 2, lambda key: key in there, lambda key: key if key in there else None
    )
    assert [values.read(key) for key in "abcd"] == ["a", None, None, None]
    assert values.get("a") == "a"
    there.clear()
    assert values.read("a") is None
    assert values.last("a") is None

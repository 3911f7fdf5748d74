"""How much a client may leave unacknowledged that has begun to acknowledge."""

from __future__ import annotations

from conversations.streaming import window
from conversations.streaming.window import Window


def test_a_client_that_never_acknowledges_has_no_window() -> None:
    account = Window()
    for number in range(1000):
        account.sent(f"{number}-0", 1000)
    assert not account.is_full


def is_open(account: Window) -> bool:
    return not account.is_full


def test_the_window_is_full_of_what_came_after_the_last_acknowledgement() -> None:
    account = Window()
    account.sent("1-0", 10 * window.LARGEST)
    account.acknowledge("1-0")
    number = 1
    while is_open(account):
        number += 1
        account.sent(f"{number}-0", 100)
    assert window.LARGEST <= 100 * (number - 1) < window.LARGEST + 100
    account.acknowledge("1-5")  # nothing new
    assert account.is_full
    account.acknowledge(f"{number}-0")
    account.sent(f"{number + 1}-0", window.LARGEST - 2 * window.STEP)
    assert is_open(account)

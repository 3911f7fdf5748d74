"""Blocking work of an event loop, done in threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import suppress
from contextvars import ContextVar
from functools import partial

import pytest

from chatplatform.threads import Threads

name: ContextVar[str] = ContextVar("name")


class Failure(Exception):
    known: weakref.WeakSet[Failure] = weakref.WeakSet()

    def __init__(self) -> None:
        self.known.add(self)


async def test_it_runs_in_a_copy_of_the_callers_context() -> None:
    def work() -> tuple[str, str]:
        before = name.get()
        name.set("changed")
        return before, threading.current_thread().name

    token = name.set("mine")
    try:
        assert await Threads("here", 1).run(work) == ("mine", "here_0")
        assert name.get() == "mine"
    finally:
        name.reset(token)


async def test_what_it_raises_is_raised_and_is_gone_afterwards() -> None:
    def work() -> None:
        raise Failure

    gc.disable()  # nothing may wait for it
    try:
        with suppress(Failure):
            await Threads("t", 1).run(work)
            pytest.fail("It did not raise.")
        await asyncio.sleep(0.01)
        assert not Failure.known
    finally:
        gc.enable()


async def test_so_many_run_at_once_and_the_others_wait_their_turn() -> None:
    threads, both, order = Threads("t", 2), threading.Barrier(2), list[int]()

    def work(number: int) -> None:
        both.wait(5)
        order.append(number)

    await asyncio.gather(*(threads.run(partial(work, number)) for number in range(4)))
    assert (set(order[:2]), set(order[2:])) == ({0, 1}, {2, 3})


async def test_what_is_cancelled_before_its_turn_is_not_done() -> None:
    threads, go, done = Threads("t", 1), threading.Event(), list[str]()
    first = threads.run(lambda: go.wait(5))
    second = threads.run(lambda: done.append("second"))
    third = threads.run(lambda: done.append("third"))
    second.cancel()
    go.set()
    assert await first
    await third
    assert done == ["third"]


async def test_a_thread_that_the_system_refuses_is_begun_later(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, begun = Threads("t", 2), list[str]()

    def start(thread: threading.Thread) -> None:
        begun.append(thread.name)
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        really(thread)

    really = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError):
        await workers.run(int)
    assert await workers.run(int) == 0
    assert begun == ["t_0", "t_1", "t_1"]


def test_a_loop_that_is_closed_meanwhile_stops_no_thread() -> None:
    threads, go = Threads("t", 1), threading.Event()

    async def leave() -> None:
        threads.run(lambda: go.wait(5))

    asyncio.run(leave())
    go.set()

    async def ask() -> str:
        return await threads.run(lambda: "still there")

    assert asyncio.run(ask()) == "still there"

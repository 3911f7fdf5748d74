"""Waiting for what is published of a conversation."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from django.test.utils import override_settings

from conversations.api import messages
from conversations.streaming import reader
from conversations.streaming.events import Event
from conversations.streaming.hub import Ends

SOON = 2.0  # s


@pytest.fixture
async def ear() -> reader.Ear:
    """Of nobody's conversation."""
    ear = reader.Ear(uuid4(), Ends)
    ear.subscription = Ends(ear._woken.set)
    return ear


async def test_who_hears_nothing_for_long_is_told_to_look(
    ear: reader.Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "SILENCE", 0.01)
    async with asyncio.timeout(SOON):
        assert await ear.next() is None


async def test_a_turn_waits_for_its_end_and_leaves_no_task_behind(ear: reader.Ear) -> None:
    reply_id = uuid4()
    end = Event(str(reply_id), "2-0", "completed", b"{}")
    asyncio.get_running_loop().call_soon(ear.subscription.push, end)
    assert await messages._end_of(reply_id, ear) == end
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_a_turn_does_not_wait_for_ever(ear: reader.Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "QUEUED_AT_MOST", 0.01)
    with override_settings(TOTAL_TIMEOUT=0):
        async with asyncio.timeout(SOON):
            assert await messages._end_of(uuid4(), ear) is None

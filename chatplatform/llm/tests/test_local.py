from __future__ import annotations

import time

import pytest

from chatplatform.llm.config import GatewayConfig
from chatplatform.llm.errors import BadRequest
from chatplatform.llm.gateway import Gateway
from chatplatform.llm.providers.local import GREETING, NOTHING_FOUND, THANKS, compose
from chatplatform.llm.types import ChatMessage, CompletionRequest, FinishReason, Passage

from .asking import ask, collect, end_of, text_of

RETURNS = Passage("Returns", "You may return goods within 30 days.", "d1", 0.9)
REFUNDS = Passage("Refunds", "Refunds take five days.", "d2", 0.5)


def test_it_quotes_the_best_passages_with_their_titles() -> None:
    answer = compose(ask("local", passages=(REFUNDS, RETURNS)))
    assert "> You may return goods within 30 days.\n>\n> — **Returns**" in answer
    assert answer.index("30 days") < answer.index("five days"), "the most relevant comes first"
    assert "quote" in answer.splitlines()[0], "it says that these are not its own words"


def test_it_quotes_three_at_most_and_nothing_twice() -> None:
    passages = [Passage(f"T{n}", f"Fact number {n}.", f"d{n}", n / 10) for n in range(6)]
    twice = Passage("Copy", " You may return  goods within 30 DAYS.", "d9", 0.8)
    answer = compose(ask("local", passages=(RETURNS, twice, *passages)))
    assert answer.count("— **") == 3
    assert answer.lower().count("30 days") == 1


def test_it_says_plainly_when_it_has_nothing() -> None:
    assert compose(ask("local")) == NOTHING_FOUND
    assert compose(ask("local", passages=(Passage("Empty", "  ", "d", 1.0),))) == NOTHING_FOUND


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ("Hello!", GREETING),
        ("  hi there ", GREETING),
        ("Thanks a lot!", THANKS),
        ("thank you for your help", THANKS),
    ],
)
def test_it_answers_small_talk(message: str, reply: str) -> None:
    assert compose(ask("local", message, passages=(RETURNS,))) == reply


def test_a_question_that_begins_politely_is_a_question() -> None:
    assert "30 days" in compose(ask("local", "Hello, how long may I return goods?", passages=(RETURNS,)))


def test_the_last_user_message_counts() -> None:
    messages = (ChatMessage("user", "hello"), ChatMessage("assistant", "hi"), ChatMessage("user", "returns?"))
    assert "30 days" in compose(CompletionRequest("local", messages, passages=(RETURNS,)))


def test_quotes_stay_inside_their_block_and_are_shortened() -> None:
    long = Passage("A *starred* [title]", "# Heading\n\nfirst line\n\n" + "A sentence. " * 200, "d", 1.0)
    lines = compose(ask("local", passages=(long,))).splitlines()[2:]
    assert all(line.startswith(">") for line in lines)
    assert lines[0] == "> **Heading**"
    assert lines[-1] == r"> — **A \*starred\* \[title\]**"
    assert sum(map(len, lines)) < 900
    assert "A sentence. […]" in "".join(lines)


async def test_it_streams_word_by_word_what_it_completes(gateway: Gateway) -> None:
    request = ask("local", passages=(RETURNS, REFUNDS))
    events = await collect(gateway, request)
    whole = await gateway.complete(request)
    assert len(events) > 20
    assert text_of(events) == whole.text == compose(request)
    end = end_of(events)
    assert end.usage == whole.usage
    assert end.usage.output_tokens == len(events) - 1
    assert end.usage.input_tokens > 0
    assert not end.usage_estimated
    assert (whole.provider, whole.model, whole.finish_reason) == ("local", "local", FinishReason.STOP)


async def test_it_keeps_to_the_output_limit(gateway: Gateway) -> None:
    events = await collect(gateway, ask("local", passages=(RETURNS,), max_tokens=4))
    assert text_of(events) == "Here is what I"
    assert end_of(events).finish_reason is FinishReason.LENGTH
    assert end_of(events).usage.output_tokens == 4


async def test_it_keeps_its_pace() -> None:
    async with Gateway(GatewayConfig(local_tokens_per_second=100)) as gateway:
        begin = time.monotonic()
        events = await collect(gateway, ask("local", max_tokens=20))
    assert len(events) == 21
    assert 0.18 < time.monotonic() - begin < 2


async def test_it_has_no_embeddings(gateway: Gateway) -> None:
    with pytest.raises(BadRequest):
        await gateway.embed(["text"], "local")


def test_text_without_spaces_and_odd_characters_survive() -> None:
    odd = Passage("中文", "退" * 100 + " \U0001f600 שלום", "d", 1.0)
    assert "退" * 100 in compose(ask("local", passages=(odd,)))

"""The built-in provider: needs no key and no network. It quotes the best passages and says that it does
so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

from chatplatform.llm.errors import BadRequest
from chatplatform.llm.tokens import count_pieces, pieces
from chatplatform.llm.types import (
    Batch,
    Completion,
    CompletionRequest,
    Embeddings,
    Finished,
    FinishReason,
    ModelRef,
    Passage,
    TextDelta,
    Usage,
)

MAX_PASSAGES = 3
MAX_QUOTE = 700
AT_ONCE = 64  # words of a batch at most

NOTHING_FOUND = (
    "I could not find anything about that in the documents I have. "
    "You could put the question in other words, or ask to speak with a person."
)
GREETING = (
    "Hello! I am the built-in assistant. Ask me a question, and I will look for the answer in the documents "
    "I have and quote the passages to you."
)
THANKS = "You are welcome! If there is anything else you would like to know, just ask."
GOODBYE = "Goodbye! Come back whenever you have a question."
LEAD_IN = "Here is what I found in the documents. I quote their own words:"
LEAD_IN_ONE = "Here is what I found in the documents, in their own words:"

_SMALL_TALK = (
    (
        re.compile(
            r"(hi|hello|hey|hiya|hallo|hola|bonjour|ciao|guten tag|moin|good (morning|afternoon|evening|day))"
            r"( there| all| everyone| again)?|how are you|who are you|what can you do|what are you|help"
        ),
        GREETING,
    ),
    (
        re.compile(
            r"(ok |okay |great |perfect )?(thanks|thank you|thx|cheers|danke|merci|gracias|grazie)"
            r"( (a lot|so much|very much|for (your|the) help|that helped|again))?"
            r"|great|perfect|ok|okay|got it"
        ),
        THANKS,
    ),
    (re.compile(r"(good ?)?bye( bye)?|see you( later)?|tschüss|ciao ciao|adios|au revoir"), GOODBYE),
)
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
_SENTENCE_END = re.compile(r"[.!?…](?=\s)|\n")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~])")


class LocalProvider:
    """See ``base.Provider``.

    Its tokens are words: each word with its leading white space is one (a word of more than 16 characters is
    several), in the prompt, in the passages that it was given, and in the answer.
    """

    def __init__(self, *, tokens_per_second: float) -> None:
        self._rate = tokens_per_second

    async def stream(self, request: CompletionRequest, ref: ModelRef) -> AsyncGenerator[Batch, None]:
        words, reason = _limited(request)
        time = asyncio.get_running_loop().time
        start, said = time(), 0
        while said < len(words):
            # Due times count from the start, so that a slow step is caught up and the rate does not drift.
            due = 1 + int((time() - start) * self._rate) if self._rate > 0 else said + AT_ONCE
            if due > said:
                batch: Batch = [TextDelta(word) for word in words[said : min(due, said + AT_ONCE)]]
                said += len(batch)
                yield batch
            await asyncio.sleep(max(start + said / self._rate - time(), 0.0) if self._rate > 0 else 0.0)
        yield [Finished(reason, _usage(request, len(words)), usage_estimated=False)]

    async def complete(self, request: CompletionRequest, ref: ModelRef) -> Completion:
        words, reason = _limited(request)
        return Completion("".join(words), reason, _usage(request, len(words)), ref.provider, ref.name)

    async def embed(self, texts: Sequence[str], ref: ModelRef) -> Embeddings:
        raise BadRequest("this provider has no embeddings", provider=ref.provider, model=ref.name)

    def warm_up(self) -> None:
        """Nothing is slow here."""

    async def aclose(self) -> None:
        """Nothing is open here."""


def _limited(request: CompletionRequest) -> tuple[list[str], FinishReason]:
    words = pieces(compose(request))
    if request.max_tokens is None or len(words) <= request.max_tokens:
        return words, FinishReason.STOP
    return words[: request.max_tokens], FinishReason.LENGTH


def _usage(request: CompletionRequest, output: int) -> Usage:
    read = [request.system, *(message.content for message in request.messages)]
    read += [passage.text or passage.quote for passage in request.passages]
    return Usage(input_tokens=count_pieces(read), output_tokens=output)


def compose(request: CompletionRequest) -> str:
    """The whole answer as Markdown."""
    asked = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
    if reply := _small_talk(asked):
        return reply
    best = _best(request.passages)
    if not best:
        return NOTHING_FOUND
    lead_in = LEAD_IN_ONE if len(best) == 1 else LEAD_IN
    return "\n\n".join([lead_in, *(_quotation(passage) for passage in best)])


def _small_talk(text: str) -> str | None:
    """A short reply if the whole message is a greeting or thanks, else None."""
    plain = re.sub(r"[^\w\s]", "", text.lower()).strip()
    plain = re.sub(r"\s+", " ", plain)
    return next((reply for pattern, reply in _SMALL_TALK if pattern.fullmatch(plain)), None)


def _best(passages: Sequence[Passage]) -> list[Passage]:
    """The most relevant passages, without those that only repeat a better one."""
    chosen: list[Passage] = []
    seen: list[str] = []
    for passage in sorted(passages, key=lambda p: -p.score):
        words = " ".join(_words_of(passage).split()).lower()
        if not words or any(words in other or other in words for other in seen):
            continue
        chosen.append(passage)
        seen.append(words)
    return chosen[:MAX_PASSAGES]


def _words_of(passage: Passage) -> str:
    return (passage.quote or passage.text).strip()


def _quotation(passage: Passage) -> str:
    lines = [_HEADING.sub(r"**\1**", line.rstrip()) for line in _shortened(_words_of(passage)).splitlines()]
    quote = "\n".join(f"> {line}".rstrip() for line in lines)
    title = _MARKDOWN.sub(r"\\\1", " ".join(passage.title.split()))
    return f"{quote}\n>\n> — **{title}**" if title else quote


def _shortened(text: str) -> str:
    """At most ``MAX_QUOTE`` characters, cut after a sentence where there is one in the second half."""
    if len(text) <= MAX_QUOTE:
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text, MAX_QUOTE // 2, MAX_QUOTE)]
    if ends:
        return f"{text[: ends[-1]].rstrip()} […]"
    return f"{text[:MAX_QUOTE].rsplit(None, 1)[0]} […]"

"""Which passages answer a question, which sentences of them, and whether any does. Pure functions.

A good cosine alone says little: a passage about the same subject that leaves the question open is as near as the one
that answers it. What tells them apart is coverage: the share of the question's terms, the rare ones counting most,
that the passage speaks of, in the same word or in one that means the same. Names are different: that a passage names
the thing asked about is no answer yet, but a passage that does not name it is none. A question is declined when
every passage covers too little of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from conversations.rag import text
from conversations.rag.question import Question, Term

# Tuned on tuning questions, never on held-out ones (see docs/knowledge.md); nothing else is.
ENOUGH_COVERAGE = 0.54
HEADING_WEIGHT = 0.9
COSINE_WEIGHT = 2.0
BESIDE_THE_BEST = 0.75
LOOKED_AT = 5

QUOTE_CHARACTERS = 420


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that full-text or vector search brought up. `heading` is the path to it, the document's title first;
    `cosine` its similarity to the question, -1 to 1.
    """

    document_id: str
    heading: str
    text: str
    cosine: float
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """How many chunks there are, and in how many of them each term occurs, by `Term.stem`."""

    chunks: int
    frequency: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its relevance (0 to 1) and its coverage of the question (0 to 1)."""

    candidate: Candidate
    score: float
    coverage: float


def term_weights(question: Question, corpus: Corpus) -> dict[Term, float]:
    """How much each term counts: the rarer in this corpus, the more (the inverse frequency of BM25)."""
    weights = {}
    for term in question.terms:
        found = min(corpus.frequency.get(term.stem, 0), corpus.chunks)
        weights[term] = math.log(1 + (corpus.chunks - found + 0.5) / (found + 0.5))
    return weights


def rank(question: Question, candidates: Sequence[Candidate], corpus: Corpus) -> list[Ranked]:
    """The candidates, most relevant first."""
    weights = term_weights(question, corpus)
    return sorted((_ranked(candidate, weights) for candidate in candidates), key=lambda one: -one.score)


def answering(ranked: Sequence[Ranked], limit: int) -> list[Ranked]:
    """Of candidates in order, those to show, at most `limit`; none if the question is declined.

    Beside the best there is room for those that are nearly as relevant.
    """
    if not any(one.coverage >= ENOUGH_COVERAGE for one in ranked[:LOOKED_AT]):
        return []
    return [one for one in ranked if one.score >= ranked[0].score * BESIDE_THE_BEST][:limit]


def quote(question: Question, corpus: Corpus, passage: str) -> str:
    """The sentences of a passage that answer best, as they stand there and in their order.

    The best run of neighbouring sentences within QUOTE_CHARACTERS; the passage itself if it is not longer.
    """
    if len(passage) <= QUOTE_CHARACTERS:
        return passage
    weights = term_weights(question, corpus)
    found = [sentence for line in passage.split("\n") for sentence in text.sentences(line)]
    runs = [run for start in range(len(found)) if (run := _run(found, start))]
    best = max(runs, key=lambda run: share(run, weights))
    return best if len(best) <= QUOTE_CHARACTERS else best[:QUOTE_CHARACTERS].rsplit(None, 1)[0] + " …"


def share(passage: str, weights: Mapping[Term, float]) -> float:
    """The share of some terms, by weight, that a passage speaks of; 0 if there are none."""
    total = sum(weights.values())
    return sum(weights[term] for term in _met(passage, weights)) / total if total else 0.0


def coverage(passage: str, weights: Mapping[Term, float]) -> float:
    """How far a passage goes to answer: its share of what is asked, times its share of the names asked about."""
    asked = {term: weight for term, weight in weights.items() if not term.is_name}
    names = {term: weight for term, weight in weights.items() if term.is_name}
    if not asked:
        return share(passage, names)
    return share(passage, asked) * (share(passage, names) if names else 1.0)


def _met(passage: str, terms: Iterable[Term]) -> list[Term]:
    stems = text.stems_in(passage)
    present, groups = set(stems), text.groups_in(stems)
    return [term for term in terms if term.stem in present or term.groups & groups]


def _ranked(candidate: Candidate, weights: Mapping[Term, float]) -> Ranked:
    whole = f"{candidate.heading} . {candidate.text}"
    score = share(whole, weights) + HEADING_WEIGHT * share(candidate.heading, weights)
    score += COSINE_WEIGHT * max(candidate.cosine, 0.0)
    return Ranked(candidate, score / (1 + HEADING_WEIGHT + COSINE_WEIGHT), coverage(whole, weights))


def _run(sentences: Sequence[str], start: int) -> str:
    run = sentences[start]
    for following in sentences[start + 1 :]:
        if len(run) + 1 + len(following) > QUOTE_CHARACTERS:
            break
        run = f"{run} {following}"
    return run

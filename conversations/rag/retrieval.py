"""The passages of the current tenant's documents that answer a question."""

from __future__ import annotations

import math
from dataclasses import dataclass

import structlog
from django.contrib.postgres.search import SearchQuery, SearchRank
from django.db import connections, router
from django.db.models import Case, FloatField, Q, QuerySet, Value, When
from pgvector.django import CosineDistance

from chatplatform.llm.errors import ProviderError
from chatplatform.llm.types import Passage
from conversations.models.knowledge import Chunk
from conversations.rag.embeddings import Embedder
from conversations.rag.question import Question, Term, parse_question
from conversations.rag.ranking import Candidate, Corpus, Ranked, answering, quote, rank
from conversations.rag.text import is_content

log = structlog.get_logger("conversations.retrieval")
CANDIDATES = 40  # from each of the two searches
QUESTION_CHARACTERS = 2_000
QUESTION_TERMS = 40
COUNT_CHUNKS = "SELECT count(*) FROM conversations_chunk"
# One index look-up a term, all in one round trip.
COUNT_TERMS = """
    SELECT (SELECT count(*) FROM conversations_chunk WHERE search @@ to_tsquery('english', term))
    FROM unnest(%s::text[]) WITH ORDINALITY AS terms (term, number) ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a question brought up, best first: the passages nearest to it, and those of them that answer it.

    A language model judges better than any threshold whether a passage answers, so it is given the nearest; what is
    shown as a source, and quoted without a model, are the answering ones alone.
    """

    nearest: tuple[Passage, ...] = ()
    answering: tuple[Passage, ...] = ()


def retrieve(question: str, *, limit: int, using: Embedder) -> tuple[Passage, ...]:
    """At most `limit` passages that answer a question, best first; none if the documents do not answer it."""
    return find(question, limit=limit, using=using).answering


def find(question: str, *, limit: int, using: Embedder) -> Found:
    """At most `limit` passages of each kind.

    Must be called inside a tenant. Raises what the database and a remote embedder raise.
    """
    asked = parse_question(question[:QUESTION_CHARACTERS])
    if not asked.terms or limit < 1:
        return Found()
    asked = Question(asked.text, asked.terms[:QUESTION_TERMS])
    candidates = _candidates(asked, using)
    if not candidates:
        return Found()
    corpus = _corpus(asked)
    ranked = rank(asked, candidates, corpus)
    passages = {one: _passage(one, asked, corpus) for one in ranked[:limit]}
    answers = answering(ranked, limit)
    return Found(tuple(passages.values()), tuple(passages[one] for one in answers))


def _candidates(question: Question, using: Embedder) -> list[Candidate]:
    """What vector search and full-text search bring up, each chunk once, with its cosine to the question."""
    near, measured = _near(question, using)
    query = SearchQuery(" | ".join(map(_search, question.terms)), search_type="raw", config="english")
    worded = measured.filter(search=query).order_by(SearchRank("search", query).desc())
    return list({row.id: _candidate(row) for chunks in (near, worded) for row in _rows(chunks)}.values())


def _near(question: Question, using: Embedder) -> tuple[QuerySet[Chunk], QuerySet[Chunk]]:
    """The nearest chunks, and all chunks with their distance; no chunks and no distance while the embedder is away."""
    try:
        vector = using.embed([question.text])[0]
    except ProviderError as error:
        log.warning("embedder_away", kind=str(error.kind))
        return Chunk.objects.none(), Chunk.objects.annotate(distance=Value(None, output_field=FloatField()))
    # Vectors of another model have no distance to this one; their chunks are still found by their words.
    comparable = Q(embedding_model=using.name, dimension=len(vector))
    measured = Chunk.objects.annotate(
        distance=Case(When(comparable, then=CosineDistance("embedding", vector)))
    )
    return measured.filter(comparable).order_by("distance"), measured


def _rows(chunks: QuerySet[Chunk]) -> QuerySet[Chunk]:
    return chunks.select_related("document").defer("embedding", "search")[:CANDIDATES]


def _candidate(chunk: Chunk) -> Candidate:
    distance: float | None = chunk.distance  # type: ignore[attr-defined]
    # The distance to a vector of zeros is not a number.
    cosine = 0.0 if distance is None or math.isnan(distance) else 1.0 - distance
    return Candidate(str(chunk.document_id), chunk.heading, chunk.text, cosine, chunk.document.url or None)


def _search(term: Term) -> str:
    """A term and its synonyms in the language of to_tsquery. Its words hold letters and digits only."""
    forms = [form for form in term.forms() if all(map(is_content, form))] or [(term.word,)]
    return "(" + " | ".join(" <-> ".join(f"'{word}'" for word in form) for form in forms) + ")"


def _corpus(question: Question) -> Corpus:
    with connections[router.db_for_read(Chunk) or "default"].cursor() as cursor:
        cursor.execute(COUNT_CHUNKS)
        (chunks,) = cursor.fetchone()
        cursor.execute(COUNT_TERMS, [list(map(_search, question.terms))])
        counts = [count for (count,) in cursor.fetchall()]
    return Corpus(chunks, {term.stem: count for term, count in zip(question.terms, counts, strict=True)})


def _passage(found: Ranked, question: Question, corpus: Corpus) -> Passage:
    candidate = found.candidate
    quoted = quote(question, corpus, candidate.text)
    return Passage(
        candidate.heading, quoted, candidate.document_id, found.score, candidate.url, candidate.text
    )

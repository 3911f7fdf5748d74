"""Retrieval over PostgreSQL: what is found, what is declined, and whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from django.conf import settings

from chatplatform import tenancy
from conversations.models import Chunk
from conversations.rag import evaluation
from conversations.rag.embeddings import GatewayEmbedder, WordLlamaEmbedder
from conversations.rag.retrieval import retrieve
from conversations.services import embedding, knowledge
from tenants.selectors import TenantState

HANDBOOK = Path(settings.BASE_DIR) / "tenants" / "demo" / "handbook"
# A little under what is measured (docs/knowledge.md), so that a change for the worse fails.
BUILT_IN = WordLlamaEmbedder()
FLOORS = {"tuning": (45, 48), "held_out": (8, 14)}


@pytest.fixture
def handbook(in_acme: TenantState) -> None:
    for page in sorted(HANDBOOK.glob("*.md")):
        knowledge.ingest(page.name, page.read_bytes())


def titles(question: str) -> list[str]:
    return [passage.title for passage in retrieve(question, limit=3, using=BUILT_IN)]


@pytest.mark.parametrize("split", evaluation.SPLITS)
def test_it_answers_and_declines(handbook: None, split: str) -> None:
    cases = [case for case in evaluation.load_cases(HANDBOOK) if case.split == split]
    figures = evaluation.figures(
        evaluation.evaluate(cases, lambda question: retrieve(question, limit=3, using=BUILT_IN))
    )
    assert (figures.answerable, figures.unanswerable) == {"tuning": (60, 60), "held_out": (15, 15)}[split]
    answered, declined = FLOORS[split]
    assert figures.answered >= answered
    assert figures.declined >= declined


def test_the_tour_in_the_readme_is_true(handbook: None) -> None:
    assert (
        titles("Can I cancel my coffee subscription?")[0]
        == "Bean subscription › Pausing, changing or stopping"
    )
    assert titles("Who won the world cup?") == []
    shops = ["Our shops and opening hours › Port Ellery", "Our shops and opening hours › Larkhaven"]
    assert titles("When are you open on Sundays?") == shops


def test_memory_and_postgres_show_the_same(handbook: None) -> None:
    pieces = [piece for page in evaluation.read_handbook(HANDBOOK).values() for piece in page]
    remembered = evaluation.in_memory(pieces, BUILT_IN, 3)
    questions = [case.question for case in evaluation.load_cases(HANDBOOK) if case.split == "tuning"]
    same = sum(
        [passage.title for passage in remembered(question)] == titles(question) for question in questions
    )
    assert same >= 0.8 * len(questions)


def test_a_passage_tells_where_it_is_from(in_acme: TenantState) -> None:
    done = knowledge.ingest(
        "dogs.md", b"# Dogs\n\n## In the shop\n\nDogs are welcome.", url="https://x.test/dogs"
    )
    (passage,) = retrieve("Are dogs welcome?", limit=3, using=BUILT_IN)
    assert passage.title == "Dogs › In the shop"
    assert passage.quote == passage.text == "Dogs are welcome."
    assert passage.document_id == str(done.document_id)
    assert passage.url == "https://x.test/dogs"
    assert 0 < passage.score <= 1


@pytest.mark.parametrize(
    "question",
    [
        "",
        " ",
        "?",
        "What is it?",
        "dogs' | !(",
        "'; DROP TABLE x --",
        "a\0b\ud800",
        "🐶" * 50,
        "dog " * 50_000,
        "<->",
    ],
)
def test_odd_questions_do_no_harm(in_acme: TenantState, question: str) -> None:
    knowledge.ingest("dogs.md", b"# Dogs\n\nDogs are welcome.")
    assert len(retrieve(question, limit=3, using=BUILT_IN)) <= 1


def test_without_documents_there_is_no_answer(in_acme: TenantState) -> None:
    assert titles("Are dogs welcome?") == []


def test_a_tenant_finds_its_own_documents_only(acme: TenantState, globex: TenantState) -> None:
    for tenant, text in ((acme, b"Dogs are welcome."), (globex, b"Dogs are not welcome.")):
        with tenancy.in_tenant(tenant.ref):
            knowledge.ingest("dogs.md", b"# Dogs\n\n" + text)
    with tenancy.in_tenant(globex.ref):
        assert [passage.text for passage in retrieve("Are dogs welcome?", limit=9, using=BUILT_IN)] == [
            "Dogs are not welcome."
        ]
    with pytest.raises(tenancy.NoTenant):
        retrieve("Are dogs welcome?", limit=3, using=BUILT_IN)


def test_chunks_of_another_embedding_model_are_found_by_their_words(
    in_acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge.ingest("dogs.md", b"# Dogs\n\nDogs are welcome.")

    def three_numbers(texts: list[str]) -> Sequence[Sequence[float]]:
        return [[1.0, float(len(text)), 0.0] for text in texts]

    other = GatewayEmbedder("other", three_numbers)
    assert [passage.title for passage in retrieve("Are dogs welcome?", limit=3, using=other)] == ["Dogs"]
    monkeypatch.setattr(embedding, "outside_of_turns", lambda document: other)
    knowledge.ingest("cats.md", b"# Cats\n\nCats are welcome.")
    assert {chunk.dimension for chunk in Chunk.objects.all()} == {3, 256}
    assert retrieve("Are cats welcome?", limit=3, using=other)[0].title == "Cats"

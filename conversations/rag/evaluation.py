"""How well questions are answered from the right passage, and declined where the documents hold no answer.

The same ranking runs over PostgreSQL and over a list in memory; the latter needs no server and takes every chunk
for a candidate.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatplatform.llm.types import Passage
from conversations.rag import text
from conversations.rag.chunking import PATH_SEPARATOR, Piece, chunk, embedded_text
from conversations.rag.embeddings import Embedder
from conversations.rag.parsing import parse
from conversations.rag.question import Term, parse_question
from conversations.rag.ranking import Candidate, Corpus, answering, quote, rank

QUESTIONS = Path(__file__).parent / "tests" / "questions.json"
SPLITS = ("tuning", "held_out")
Retrieve = Callable[[str], Sequence[Passage]]


@dataclass(frozen=True, slots=True)
class Case:
    """A question and the headings (page title first) of the passages that answer it; none if it has no answer."""

    question: str
    split: str
    answers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a question: the headings of the passages shown, best first."""

    case: Case
    shown: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Answered with the right passage among those shown, or rightly declined."""
        return bool(self.case.answers & set(self.shown)) if self.case.answers else not self.shown

    @property
    def is_first(self) -> bool:
        """Whether the right passage was the first one."""
        return bool(self.shown) and self.shown[0] in self.case.answers


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts over one half of the questions."""

    answerable: int
    answered: int
    answered_first: int
    unanswerable: int
    declined: int


def load_cases(handbook: Path, questions: Path = QUESTIONS) -> list[Case]:
    """The question set. Raises ValueError if it names a heading that the handbook does not have."""
    pieces = read_handbook(handbook)
    known = {piece.heading for page in pieces.values() for piece in page}
    cases = []
    for entry in json.loads(questions.read_text(encoding="utf-8")):
        headings = {
            PATH_SEPARATOR.join([_title(pieces[answer["page"]]), answer["heading"]])
            for answer in entry["answers"]
        }
        if headings - known:
            raise ValueError(f"The handbook has no {', '.join(headings - known)}")
        cases.append(Case(entry["question"], entry["split"], frozenset(headings)))
    return cases


def _title(pieces: Sequence[Piece]) -> str:
    return pieces[0].heading.split(PATH_SEPARATOR)[0]


def read_handbook(handbook: Path) -> dict[str, list[Piece]]:
    """The chunks of each Markdown page of a folder, by file name."""
    return {path.name: chunk(parse(path.name, path.read_bytes())) for path in sorted(handbook.glob("*.md"))}


def evaluate(cases: Iterable[Case], retrieve: Retrieve) -> list[Outcome]:
    """Ask every question."""
    return [Outcome(case, tuple(passage.title for passage in retrieve(case.question))) for case in cases]


def figures(outcomes: Iterable[Outcome]) -> Figures:
    """The counts over some outcomes."""
    kept = list(outcomes)
    answerable = [outcome for outcome in kept if outcome.case.answers]
    unanswerable = [outcome for outcome in kept if not outcome.case.answers]
    return Figures(
        answerable=len(answerable),
        answered=sum(outcome.is_right for outcome in answerable),
        answered_first=sum(outcome.is_first for outcome in answerable),
        unanswerable=len(unanswerable),
        declined=sum(outcome.is_right for outcome in unanswerable),
    )


def in_memory(pieces: Sequence[Piece], embedder: Embedder, limit: int) -> Retrieve:
    """Retrieval over chunks in memory, without PostgreSQL."""
    vectors = embedder.embed([embedded_text(piece) for piece in pieces])
    stems = [text.stems_in(f"{piece.heading} . {piece.text}") for piece in pieces]
    profiles = [(set(words), text.groups_in(words)) for words in stems]

    def frequency(term: Term) -> int:
        return sum(term.stem in words or bool(term.groups & groups) for words, groups in profiles)

    def retrieve(question: str) -> list[Passage]:
        asked = parse_question(question)
        cosines = vectors @ embedder.embed([question])[0]
        candidates = [
            Candidate(str(number), piece.heading, piece.text, float(cosine))
            for number, (piece, cosine) in enumerate(zip(pieces, cosines, strict=True))
        ]
        corpus = Corpus(len(pieces), {term.stem: frequency(term) for term in asked.terms})
        return [
            Passage(found.heading, quote(asked, corpus, found.text), found.document_id, one.score)
            for one in answering(rank(asked, candidates, corpus), limit)
            for found in [one.candidate]
        ]

    return retrieve

"""A question taken apart: the terms that a passage must speak of to answer it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conversations.rag import text


@dataclass(frozen=True, slots=True)
class Term:
    """One thing a question speaks of. `forms` are the word and its synonyms, each as the words of a phrase.

    `groups` are the synonym groups it belongs to. `is_name` marks what must be met by that very name: names
    of products, places and people, and numbers.
    """

    word: str
    groups: frozenset[int]
    is_name: bool = False

    @property
    def stem(self) -> str:
        return text.stem(self.word)

    def forms(self) -> list[tuple[str, ...]]:
        """The word itself, then the phrases that mean the same."""
        table = text.synonym_groups()
        phrases = [tuple(text.words(phrase)) for group in sorted(self.groups) for phrase in table[group]]
        return list(dict.fromkeys([(self.word,), *phrases]))


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its terms, in order, each once."""

    text: str
    terms: tuple[Term, ...]


def parse_question(asked: str) -> Question:
    """The terms of a question. There are none in `What is it?`.

    A phrase of the synonym table is one term (`send back`, `gift card`), carried by its first content word.
    """
    said = [word for word in text.words(asked) if word not in text.OBJECTS]
    names = _names(asked)
    terms: dict[str, Term] = {}
    for start, end, groups in _parts(said):
        carrier = next((word for word in said[start:end] if text.is_content(word)), said[start])
        if groups or text.is_content(carrier):
            terms.setdefault(text.stem(carrier), Term(carrier, groups, carrier in names))
    return Question(asked, tuple(terms.values()))


def _parts(said: Sequence[str]) -> Iterator[tuple[int, int, frozenset[int]]]:
    """The question cut into phrases of the synonym table, longest first, and single words: (start, end, groups)."""
    spans: dict[int, dict[int, set[int]]] = {}
    for group, start, end in text.group_spans([text.stem(word) for word in said]):
        if end - start > 1 or text.is_content(said[start]):
            spans.setdefault(start, {}).setdefault(end, set()).add(group)
    position = 0
    while position < len(said):
        ends = spans.get(position, {position + 1: set()})
        end = max(ends)
        yield position, end, frozenset(ends[end])
        position = end


def _names(asked: str) -> set[str]:
    """Words written with a capital inside a sentence, or with both letters and digits."""
    found: set[str] = set()
    for sentence in text.sentences(asked):
        for number, match in enumerate(text.WORD.finditer(sentence)):
            word = match.group()
            capital = number > 0 and word != word.lower() and not sentence.isupper()
            if capital or (word.isalnum() and not word.isalpha() and not word.isdigit()):
                found.update(text.words(word))
    return found

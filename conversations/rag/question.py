"""A question taken apart: the terms that a passage must speak of to answer it."""

from __future__ import annotations

from collections.abc import Sequence
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
    """The terms of a question. There are none in `What is it?`."""
    said = text.words(asked)
    stems = [text.stem(word) for word in said]
    names = _names(asked)
    covering: list[set[int]] = [set() for _ in said]
    carriers: set[int] = set()
    for group, start, end in text.group_spans(stems):
        for position in range(start, end):
            covering[position].add(group)
        carriers |= set(range(start, end)) if end - start == 1 else {_carrier(said, start, end)}
    terms: dict[str, Term] = {}
    for position, word in enumerate(said):
        if text.is_content(word) or (position in carriers and covering[position] and word not in ALONE):
            terms.setdefault(stems[position], Term(word, frozenset(covering[position]), word in names))
    return Question(asked, tuple(terms.values()))


# Stop words that are synonyms of something when they stand in a phrase, but say nothing alone.
ALONE = frozenset("gone at not in out up off".split())


def _carrier(said: Sequence[str], start: int, end: int) -> int:
    """The word that stands for a phrase: its first content word, else its last word."""
    return next((position for position in range(start, end) if text.is_content(said[position])), end - 1)


def _names(asked: str) -> set[str]:
    """Words written with a capital inside a sentence, or with letters and digits."""
    found: set[str] = set()
    for sentence in text.sentences(asked):
        for number, match in enumerate(text.WORD.finditer(sentence)):
            word = match.group()
            shouted = sentence.isupper()
            if (word.isalnum() and not word.isalpha() and not word.isdigit()) or (number and any(c.isupper() for c in word) and not shouted):
                found.update(text.words(word))
    return found

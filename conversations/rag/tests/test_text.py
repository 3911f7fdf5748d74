"""Words, stems, sentences and synonyms."""

from __future__ import annotations

import pytest

from conversations.rag import text
from conversations.rag.question import parse_question


@pytest.mark.parametrize(
    "forms",
    [
        ("return", "returns", "returned", "returning"),
        ("delivery", "deliveries"),
        ("repair", "repairs", "repaired", "repairing"),
        ("crush", "crushes", "crushed"),
        ("stop", "stops", "stopped", "stopping"),
        ("machine", "machines"),
    ],
)
def test_inflections_have_one_stem(forms: tuple[str, ...]) -> None:
    assert len({text.stem(form) for form in forms}) == 1


@pytest.mark.parametrize(("one", "other"), [("timer", "time"), ("glass", "glad"), ("bus", "busy")])
def test_different_words_have_different_stems(one: str, other: str) -> None:
    assert text.stem(one) != text.stem(other)


def test_words_unfold_contractions_and_signs() -> None:
    assert text.words("Don’t pay the shop's €5, I can't!") == [
        "do", "not", "pay", "the", "shop", "euro", "5", "i", "can", "not",
    ]  # fmt: skip


def test_sentences_end_where_a_reader_sees_it() -> None:
    found = text.sentences("It costs €4.90 per parcel. Call Mr. Lind at 9 a.m. or later! Really?\nYes")
    assert found == ["It costs €4.90 per parcel.", "Call Mr. Lind at 9 a.m. or later!", "Really?", "Yes"]


def test_every_line_of_the_synonym_table_has_two_words_that_can_be_found() -> None:
    for group in text.synonym_groups():
        assert len(group) > 1, group
        assert all(text.words(phrase) for phrase in group), group


def test_a_phrase_is_one_term_and_means_what_its_synonym_means() -> None:
    (term,) = parse_question("Can I send them back?").terms
    assert term.groups & text.groups_in([text.stem("returned")])
    assert [term.word for term in parse_question("I have lost my gift card!").terms] == ["lost", "gift"]


def test_names_are_told_from_words() -> None:
    terms = {term.word: term.is_name for term in parse_question("How loud is the Heron MK2 grinder?").terms}
    assert terms == {"loud": False, "heron": True, "mk2": True, "grinder": False}


@pytest.mark.parametrize("asked", ["", "What is it?", "???", "\0\ud800", "12 34", "👋"])
def test_a_question_may_hold_no_term(asked: str) -> None:
    assert parse_question(asked).terms == ()


def test_a_shouted_question_is_not_all_names() -> None:
    assert not any(term.is_name for term in parse_question("WHERE IS MY PARCEL?").terms)

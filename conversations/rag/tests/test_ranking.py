"""The decisions of ranking, on a handful of made-up passages."""

from __future__ import annotations

from conversations.rag.question import parse_question
from conversations.rag.ranking import (
    QUOTE_CHARACTERS,
    Candidate,
    Corpus,
    answering,
    quote,
    rank,
    term_weights,
)

CORPUS = Corpus(100, {"parcel": 30, "return": 10, "send": 10, "dog": 0})


def candidate(text: str, heading: str = "Page", cosine: float = 0.3) -> Candidate:
    return Candidate("1", heading, text, cosine)


RETURNS = candidate("You can return a parcel within 30 days.", "Returns")
DELIVERY = candidate("A parcel takes three days.", "Delivery", 0.9)


def shown(question: str, *candidates: Candidate, limit: int = 3) -> list[str]:
    ranked = rank(parse_question(question), candidates, CORPUS)
    return [one.candidate.heading for one in answering(ranked, limit)]


def test_the_passage_that_speaks_of_everything_asked_comes_first() -> None:
    assert shown("How do I send back a parcel?", DELIVERY, RETURNS)[0] == "Returns"


def test_a_near_passage_that_leaves_the_question_open_is_no_answer() -> None:
    assert shown("Can I send my dog in a parcel?", DELIVERY, RETURNS) == []


def test_a_passage_that_does_not_name_the_thing_is_no_answer() -> None:
    noise = candidate("It is as loud as a vacuum cleaner.", "Noise", 0.9)
    assert shown("How loud is it?", noise) == ["Noise"]
    assert shown("How loud is the Falcon?", noise) == []


def test_a_passage_that_only_names_the_thing_is_no_answer() -> None:
    assert shown("Is the Falcon waterproof?", candidate("The Falcon weighs 3 kg.", cosine=0.9)) == []


def test_nothing_asked_is_not_answered() -> None:
    assert shown("What is it?", RETURNS) == []
    assert shown("How do I return it?") == []


def test_no_more_than_the_limit_and_nothing_far_behind_the_best() -> None:
    assert len(shown("return a parcel", RETURNS, RETURNS, RETURNS, limit=2)) == 2
    assert shown("return a parcel", RETURNS, candidate("Weather.", "Weather", 0.0)) == ["Returns"]


def test_rare_terms_weigh_more_and_a_wrong_count_does_no_harm() -> None:
    question = parse_question("dog parcel")
    weights = {term.word: weight for term, weight in term_weights(question, CORPUS).items()}
    assert weights["dog"] > weights["parcel"] > 0
    assert all(weight > 0 for weight in term_weights(question, Corpus(1, {"parcel": 9})).values())


def test_scores_stay_between_nothing_and_one() -> None:
    perfect = candidate("return a parcel", "return a parcel", 1.0)
    opposite = candidate("weather", cosine=-1.0)
    scores = [one.score for one in rank(parse_question("return a parcel"), [perfect, opposite], CORPUS)]
    assert scores[0] == 1.0
    assert scores[1] == 0.0


def test_a_quote_is_the_best_run_of_sentences_as_they_stand() -> None:
    filler = "Nothing of interest is said in this sentence about the weather. " * 8
    passage = f"{filler}You can return a parcel within 30 days. {filler}"
    quoted = quote(parse_question("How do I return a parcel?"), CORPUS, passage)
    assert "You can return a parcel within 30 days." in quoted
    assert quoted in passage
    assert len(quoted) <= QUOTE_CHARACTERS


def test_a_quote_of_one_endless_sentence_is_cut() -> None:
    assert len(quote(parse_question("parcel"), CORPUS, "parcel " * 500)) <= QUOTE_CHARACTERS + 2

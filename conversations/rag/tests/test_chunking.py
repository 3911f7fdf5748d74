"""Chunks: one section each, bounded, nothing lost, headings kept."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from conversations.rag.chunking import OVERLAP_CHARACTERS, chunk, embedded_text
from conversations.rag.documents import ParsedDocument, Section


def document(*sections: tuple[tuple[str, ...], str]) -> ParsedDocument:
    return ParsedDocument("Returns", tuple(Section(path, text) for path, text in sections), "text/plain")


def test_it_keeps_short_sections_whole_and_under_their_headings() -> None:
    pieces = chunk(document(((), "Send it back."), (("Abroad", "Malta"), "Forty days.\nBy ship.")))
    assert [(piece.position, piece.heading, piece.text) for piece in pieces] == [
        (0, "Returns", "Send it back."),
        (1, "Returns › Abroad › Malta", "Forty days.\nBy ship."),
    ]
    assert embedded_text(pieces[1]).startswith("Returns. Abroad. Malta. Forty days.")


def test_it_cuts_between_sentences_and_repeats_the_last_one() -> None:
    sentences = [f"This is sentence number {number} of the page." for number in range(40)]
    pieces = chunk(document(((), " ".join(sentences))), size=300)
    for before, after in pairwise(pieces):
        last = before.text.rsplit("This", 1)[1]
        assert len(last) < OVERLAP_CHARACTERS
        assert after.text.startswith("This" + last)
    assert all(len(piece.text) <= 300 and piece.text.endswith(".") for piece in pieces)


def test_it_slices_text_without_sentences() -> None:
    pieces = chunk(document(((), "x" * 5_000)), size=1_000)
    assert sum(piece.text.count("x") for piece in pieces) >= 5_000
    assert max(len(piece.text) for piece in pieces) <= 1_000


@given(st.lists(st.text("ab.! \n", min_size=1, max_size=400), min_size=1, max_size=5), st.integers(50, 300))
def test_it_loses_no_word_and_makes_no_chunk_too_long(texts: list[str], size: int) -> None:
    pieces = chunk(document(*(((), text) for text in texts)), size)
    letters = "".join(texts).replace(" ", "").replace("\n", "")
    kept = "".join(piece.text for piece in pieces).replace(" ", "").replace("\n", "")
    assert len(kept) >= len(letters)
    assert all(len(piece.text) <= size for piece in pieces)

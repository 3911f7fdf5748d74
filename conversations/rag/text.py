"""Words, stems, sentences and synonyms: what ranking compares. English."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[€$£%]")
SIGNS = {"€": "euro", "$": "dollar", "£": "pound", "%": "percent"}
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"”’)]?\s+(?=[\"“‘(]?[A-Z0-9])|\n+")
ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|approx|no|Mr|Mrs|Ms|Dr|St|incl|min|max|vs)\.$", re.IGNORECASE)
SYNONYMS = Path(__file__).with_name("synonyms.txt")

# Words that say how something is asked or told, not what it is about: function words, light verbs, politeness,
# the people and moments of the story around a question, and the units of quantities.
STOPWORDS = frozenset(
    """
    a about above across actually after afterwards again ago all almost along already also although always am an
    and another any anybody anyone anything are around as ask at aunt be because been before being below besides
    between boss both boyfriend brother but by can cannot colleague could couple cousin currently d dad daughter
    day days did do does doing done down due during each either else enough even ever every everybody everyone
    everything exactly far father few for friend from further gave get gets getting girlfriend give given gives
    go goes going gone got had half happen happened happening happens has have having he hello help her here
    hers hi him his hour hours how however husband i if in inside instead into is it its itself just keep kept
    know known later least less let lets like likes ll look looking lot lots m made make makes making many may
    maybe me mean might mine minute minutes month months more most mother much mum must my myself near need
    needs neither never new no nobody nor not notice noticed now of off often oh ok on once one only onto or
    other others our ours out outside over own perhaps person please possible put quite rather re really s said
    same saw say see seem seen several shall she should since sister so some somebody someone something
    sometimes somewhere son soon sort still such suppose sure t take takes taking tell telling than thank thanks
    that the their them then there these they thing things think this those though through to today together
    told tomorrow too took try trying uncle under until up upon us use used using usually ve very via want
    wanted wants was way we week weeks well went were what whatever when where whether which while who whole
    whom whose why wife will with within without won wonder wondering would year years yes yesterday yet you
    your yours yourself
    """.split()
)
IRREGULAR = {
    form: verb
    for verb, forms in {
        "begin": "began begun", "bite": "bit bitten", "blow": "blew blown", "break": "broke broken",
        "bring": "brought", "build": "built", "burn": "burnt", "buy": "bought", "catch": "caught",
        "choose": "chose chosen", "die": "died dying", "draw": "drew drawn", "drink": "drank drunk",
        "drive": "drove driven", "eat": "ate eaten", "fall": "fell fallen", "feel": "felt",
        "find": "found", "forget": "forgot forgotten", "freeze": "froze frozen", "grind": "ground",
        "hide": "hid hidden", "hold": "held", "lay": "laid", "learn": "learnt", "leave": "left", "lend": "lent",
        "lose": "lost losing", "meet": "met", "pay": "paid", "ride": "rode ridden",
        "run": "ran", "sell": "sold", "send": "sent", "speak": "spoke spoken",
        "spend": "spent", "steal": "stole stolen", "teach": "taught", "tear": "tore torn", "throw": "threw thrown",
        "wake": "woke woken", "wear": "wore worn", "write": "wrote written",
    }.items()
    for form in forms.split()
}  # fmt: skip
# What stands inside a phrase without changing it: send it back, pick them up.
OBJECTS = frozenset("it them this that these those".split())
SUFFIXES = tuple(
    "ations ation ements ement ments ment ingly ings ing edly iest ied ies est ed es ers er ly s e".split()
)


def words(text: str) -> list[str]:
    """The words and numbers of a text, in lower case: `don't` is `do not`, `shop's` is `shop`, `€` is `euro`."""
    found: list[str] = []
    for word in WORD.findall(text.lower().replace("’", "'")):
        if word.endswith("n't"):
            found += [{"ca": "can", "wo": "will"}.get(word[:-3], word[:-3]), "not"]
        else:
            found.append(SIGNS.get(word) or word.split("'")[0])
    return found


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """What the inflections of a word have in common; not always a word itself."""
    word = IRREGULAR.get(word, word)
    for suffix in SUFFIXES:
        least = 4 if suffix in ("er", "ers", "est") else 3  # a timer is not about time
        if (
            word.endswith(suffix)
            and len(word) - len(suffix) >= least
            and not (suffix == "s" and word.endswith("ss"))
        ):
            word = word[: -len(suffix)] + ("y" if suffix in ("iest", "ied", "ies") else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word[-1] == "y" else word


def is_content(word: str) -> bool:
    """Whether a word says what a question is about. Quantities do not: they differ from the handbook's."""
    return word not in STOPWORDS and len(word) > 1 and not word.isdigit()


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the white space between them."""
    found: list[str] = []
    for part in SENTENCE_END.split(text):
        if found and ABBREVIATION.search(found[-1]):
            found[-1] += " " + part.strip()
        elif part.strip():
            found.append(part.strip())
    return found


def stems_in(text: str) -> list[str]:
    """The stems of a text's words, without pronouns that may stand inside a phrase."""
    return [stem(word) for word in words(text) if word not in OBJECTS]


def groups_in(stems: Sequence[str]) -> set[int]:
    """The synonym groups of which a word or phrase occurs in a text."""
    return {group for group, _, _ in group_spans(stems)}


def group_spans(stems: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Every occurrence of a synonym as (group, first word, word after the last)."""
    table = synonyms()
    for start, first in enumerate(stems):
        for phrase, group in table.get(first, ()):
            if tuple(stems[start : start + len(phrase)]) == phrase:
                yield group, start, start + len(phrase)


@cache
def synonyms() -> dict[str, tuple[tuple[tuple[str, ...], int], ...]]:
    """First stem of each synonym → its stems and the number of its group."""
    table: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for number, group in enumerate(synonym_groups()):
        for phrase in group:
            stems = tuple(map(stem, words(phrase)))
            table.setdefault(stems[0], []).append((stems, number))
    return {first: tuple(found) for first, found in table.items()}


@cache
def synonym_groups() -> tuple[tuple[str, ...], ...]:
    """The groups of the synonym table, as written."""
    lines = SYNONYMS.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.strip() and not line.startswith("#")]
    return tuple(tuple(phrase.strip() for phrase in line.split(",")) for line in kept)

"""Finds what somebody did to the audit log behind its back, and says which row it is."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef

from chatplatform import tenancy
from tenants.audit import keys
from tenants.audit.anchors import Anchors
from tenants.audit.recording import HASHED, hashed, signed_head
from tenants.models.audit import AuditEntry, AuditHead

CHUNK = 5_000  # rows in memory at once


class Wrong(StrEnum):
    """What can be wrong with a chain."""

    EDITED = "edited"
    MOVED = "moved"
    MISSING = "missing"
    ADDED = "added"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"
    UNKNOWN_KEY = "unknown_key"
    HEAD_FORGED = "head_forged"
    ANCHORS_MISSING = "anchors_missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: with this sequence number, and the row that has it (if there is one)."""

    chain: UUID
    sequence: int
    wrong: Wrong
    detail: str
    row: UUID | None = None


@dataclass(slots=True)
class Report:
    """What was looked at, and all that was wrong. `unanchored` rows are not yet safe from an older state's return."""

    rows: int = 0
    unanchored: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify(chain: UUID, anchors: Anchors) -> Report:
    """Look at all of one chain. `anchors` are its own, read before this is called. Entries may be added meanwhile."""
    with tenancy.in_platform():
        head = AuditHead.objects.filter(chain=chain).first()
        report = Report(unanchored=head.sequence - max(anchors, default=0) if head else 0)
        # What is added from here on is after the head just read; all before it stays as it is.
        end = head.sequence if head else 0
        last, hash = _walk(chain, end, anchors, report)
        report.findings += _at_the_end(chain, head, last, hash, anchors)
        report.findings += _beyond(chain)
    return report


def chains() -> list[UUID]:
    """Every chain that has a head or rows."""
    with tenancy.in_platform():
        heads = AuditHead.objects.values_list("chain", flat=True)
        rows = AuditEntry.objects.filter(~Exists(_head_of_row())).order_by().values_list("chain", flat=True)
        return sorted({*heads, *rows.distinct()})


def _walk(chain: UUID, end: int, anchors: Anchors, report: Report) -> tuple[int, str]:
    """Goes through the rows in their order; returns the last one's number and hash."""
    known, last, before, trusted = keys.known(), 0, "", True
    for row in _rows(chain, end):
        report.rows += 1
        sequence = row["sequence"]
        if sequence > last + 1:
            report.findings.append(_missing(chain, last + 1, sequence - 1))
            trusted = False
        follows = row["previous"] == before
        found = _content(chain, row, follows, known)
        if found is None and not follows and trusted:
            found = _finding(
                row, Wrong.REWRITTEN, "It does not follow the row before it, though both are ours."
            )
        if found is None and anchors.get(sequence, row["hash"]) != row["hash"]:
            found = _finding(row, Wrong.REWRITTEN, "Another row stood here when the chain was anchored.")
        if found:
            report.findings.append(found)
        trusted, last, before = found is None, sequence, row["hash"]
    return last, before


def _content(chain: UUID, row: dict[str, Any], follows: bool, known: dict[str, keys.Key]) -> Finding | None:
    key = known.get(row["key"])
    if key is None:
        return _finding(
            row, Wrong.UNKNOWN_KEY, f"It was hashed with the key {row['key']!r}, which is not here."
        )
    if hmac.compare_digest(row["hash"], hashed((row[name] for name in HASHED), key.entries)):
        return None
    if follows:
        return _finding(row, Wrong.EDITED, "Its content is not what was recorded.")
    return _finding(row, Wrong.MOVED, "It is not the row that was recorded in this place.")


def _at_the_end(
    chain: UUID, head: AuditHead | None, last: int, hash: str, anchors: Anchors
) -> Iterator[Finding]:
    """Rows that are gone from the tail, by what the head and the anchors remember."""
    ended = max(head.sequence if head else 0, *anchors, 0) if anchors else (head.sequence if head else 0)
    if ended > last:
        said = "the anchors" if ended > (head.sequence if head else 0) else "the chain's head"
        yield Finding(
            chain,
            last + 1,
            Wrong.TRUNCATED,
            f"The rows {last + 1} to {ended} are gone from the end, by {said}.",
        )
    if head is None:
        return
    key = keys.known().get(head.key)
    if key is None or not hmac.compare_digest(
        head.signature, signed_head(chain, head.sequence, head.hash, key)
    ):
        yield Finding(chain, head.sequence, Wrong.HEAD_FORGED, "The head was not signed by us.")
    elif head.sequence == last and head.hash != hash:
        yield Finding(chain, last, Wrong.REWRITTEN, "The last row is not the one that the head names.")
    if head.anchored > max(anchors, default=0):
        text = (
            f"Rows up to {head.anchored} were anchored; the anchors at hand end at {max(anchors, default=0)}."
        )
        yield Finding(chain, head.anchored, Wrong.ANCHORS_MISSING, text)


def _beyond(chain: UUID) -> Iterator[Finding]:
    """Rows that were put in without the head: in one statement, so that honest ones do not show."""
    rows = AuditEntry.objects.filter(chain=chain).filter(
        ~Exists(_head_of_row().filter(sequence__gte=OuterRef("sequence")))
    )
    for row in rows.order_by("sequence").values("chain", "sequence", "id")[:100]:
        yield _finding(row, Wrong.ADDED, "It was added past the end of the chain.")


def _head_of_row() -> Any:
    return AuditHead.objects.filter(chain=OuterRef("chain"))


def _rows(chain: UUID, end: int) -> Iterator[dict[str, Any]]:
    rows = AuditEntry.objects.filter(chain=chain, sequence__lte=end).order_by("sequence")
    found: Iterator[dict[str, Any]] = rows.values(*HASHED, "hash").iterator(chunk_size=CHUNK)
    return found


def _missing(chain: UUID, first: int, last: int) -> Finding:
    named = f"Row {first} is" if first == last else f"The rows {first} to {last} are"
    return Finding(chain, first, Wrong.MISSING, f"{named} gone.")


def _finding(row: Mapping[str, Any], wrong: Wrong, detail: str) -> Finding:
    return Finding(row["chain"], row["sequence"], wrong, detail, row["id"])


__all__ = ["Finding", "Report", "Wrong", "chains", "verify"]

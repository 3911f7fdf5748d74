"""Heads of the chains, kept where the database cannot reach them.

Within the database, whoever can write everything could put back an older state of it, signatures and all. What was
anchored shows that there was more: lines of JSON in a file that is only ever appended to. The same lines go to the log,
which leaves the machine in most installations; `verify_audit_log --anchors` reads them from any file that has them.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID

import orjson
import structlog
from django.conf import settings
from django.db.models import F
from django.utils import timezone

from chatplatform import tenancy
from tenants.audit import keys
from tenants.audit.recording import signed_head
from tenants.models.audit import AuditHead

log = structlog.get_logger("tenants.audit")
FILE = "anchors.jsonl"
EVENT = "audit_anchored"
Anchors = dict[int, str]  # sequence number → hash of the entry that had it


def place() -> Path:
    """The file of this installation's anchors."""
    return Path(settings.AUDIT_ANCHOR_PATH) / FILE


def anchor() -> int:
    """Write down the heads that have moved since they were last written down; returns how many."""
    with tenancy.in_platform():
        moved = [head for head in AuditHead.objects.filter(sequence__gt=F("anchored")) if _is_ours(head)]
        if not moved:
            return 0
        _append([_line(head) for head in moved])
        # One at a time: a statement for all of them would lock them in an order of its own.
        for head in moved:
            AuditHead.objects.filter(chain=head.chain, anchored__lt=head.sequence).update(
                anchored=head.sequence
            )
    return len(moved)


def read(file: Path, chain: UUID | None = None) -> dict[UUID, Anchors]:
    """The anchors in a file, by chain. Lines that are no anchors, or that no key of ours signed, are passed over.

    Raises OSError if the file cannot be read.
    """
    found: dict[UUID, Anchors] = {}
    known = keys.known()
    with file.open("rb") as lines:
        for line in lines:
            if chain is not None and str(chain).encode() not in line:
                continue
            for where, sequence, hash in _parsed(line, known):
                found.setdefault(where, {})[sequence] = hash
    return found


def _is_ours(head: AuditHead) -> bool:
    """A head that was tampered with must not be vouched for."""
    key = keys.known().get(head.key)
    good = key is not None and hmac.compare_digest(
        head.signature, signed_head(head.chain, head.sequence, head.hash, key)
    )
    if not good:
        log.error("audit_head_forged", chain=str(head.chain), sequence=head.sequence)
    return good


def _line(head: AuditHead) -> dict[str, str | int]:
    line: dict[str, str | int] = {
        "chain": str(head.chain),
        "sequence": head.sequence,
        "hash": head.hash,
        "key": head.key,
        "signature": head.signature,
        "at": timezone.now().isoformat(),
    }
    log.info(EVENT, **line)
    return line


def _append(lines: Iterable[dict[str, str | int]]) -> None:
    file = place()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # lines of two workers must not mix
        opened.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        opened.flush()
        os.fsync(opened.fileno())


def _parsed(line: bytes, known: dict[str, keys.Key]) -> Iterator[tuple[UUID, int, str]]:
    try:
        said = orjson.loads(line)
        chain, sequence, hash = UUID(said["chain"]), int(said["sequence"]), str(said["hash"])
        key, signature = known[said["key"]], str(said["signature"])
    except (ValueError, KeyError, TypeError):
        return
    if hmac.compare_digest(signature, signed_head(chain, sequence, hash, key)):
        yield chain, sequence, hash

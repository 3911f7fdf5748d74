"""What a check says."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """How it is, and what to do about it if it is not well."""

    status: Status
    detail: str
    hint: str = ""


def ok(detail: str) -> Finding:
    return Finding(Status.OK, detail)


def warning(detail: str, hint: str) -> Finding:
    return Finding(Status.WARNING, detail, hint)


def failed(detail: str, hint: str) -> Finding:
    return Finding(Status.FAILED, detail, hint)

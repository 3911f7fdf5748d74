"""Idempotency-Key: the first answer is kept for 24 hours and given again (CONTRACT §5)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from chatplatform.api.problem import CONTENT_TYPE, Code, Problem, invalid
from tenants.auth.principal import Principal
from tenants.models import PlatformIdempotencyRecord, TenantIdempotencyRecord

Record = TenantIdempotencyRecord | PlatformIdempotencyRecord
LONGEST = 200
ABANDONED = timedelta(minutes=2)  # a request that left neither answer nor reply by then has died
NOT_KEPT = {409, 429}
SHOWN_ONCE = "api_key"
SAID = "comment"  # text that people wrote, which an answer repeats: it is stored sealed, and nowhere else


def begin(principal: Principal, request: Request, *, shared: bool = False) -> tuple[Record, Response | None]:
    """Claim the request's key; the kept answer if there is one.

    Raises Problem: `idempotency_mismatch`, `idempotency_in_progress`.
    """
    record, fresh = claim(principal, request, shared=shared)
    if fresh:
        return record, None
    answer = kept(record)
    if answer is None:
        raise Problem(Code.IDEMPOTENCY_IN_PROGRESS)
    body: Any = request.data
    if isinstance(answer.data, dict) and SAID in answer.data:
        answer.data[SAID] = body.get(SAID) or None  # the same as then, or it would have been refused
    return record, answer


def kept(record: Record) -> Response | None:
    """The answer that was kept, or None while there is none."""
    if record.status is None:
        return None
    content_type = CONTENT_TYPE if record.status >= 400 else None
    headers = {"Idempotent-Replayed": "true"}
    return Response(record.answer, status=record.status, content_type=content_type, headers=headers)


def claim(principal: Principal, request: Request, *, shared: bool = False) -> tuple[Record, bool]:
    """The record of the request's key, and whether this request is the one that made it.

    Raises Problem: `idempotency_mismatch`, `idempotency_in_progress`.
    """
    key = request.headers["Idempotency-Key"]
    if not 0 < len(key) <= LONGEST:
        raise invalid("Idempotency-Key", f"1 to {LONGEST} characters.")
    kind: Any = PlatformIdempotencyRecord if shared else TenantIdempotencyRecord
    body_hash = hashlib.sha256(orjson.dumps(request.data, option=orjson.OPT_SORT_KEYS)).digest()
    same = {"credential": principal.credential, "path": request.path[:300], "key": key}
    kind.objects.filter(
        **same, status=None, reply_id=None, created_at__lt=timezone.now() - ABANDONED
    ).delete()
    try:
        with transaction.atomic():
            return kind.objects.create(**same, body_hash=body_hash), True
    except IntegrityError:
        record: Record | None = kind.objects.filter(**same).first()
    if record is None:  # the first request has just ended, with an answer that is not kept
        raise Problem(Code.IDEMPOTENCY_IN_PROGRESS)
    if bytes(record.body_hash) != body_hash:
        raise Problem(Code.IDEMPOTENCY_MISMATCH)
    return record, False


def keep(
    record: Record, handle: Callable[[], Response], on_error: Callable[[Exception], Response]
) -> Response:
    """Run the request and keep its answer, unless it is one that may differ next time.

    Both are one transaction: a process that dies between them leaves neither, so the request may run again.
    """
    try:
        with transaction.atomic():
            response = handle()
            _settle(record, response)
    except Exception as error:
        response = on_error(error)
        _settle(record, response)
    return response


def _settle(record: Record, response: Response) -> None:
    if response.status_code in NOT_KEPT or response.status_code >= 500:
        record.delete()
    else:
        record.status, record.answer = response.status_code, _masked(response.data)
        record.save(update_fields=["status", "answer"])


def _masked(answer: Any) -> Any:
    if isinstance(answer, dict) and SAID in answer:
        return {**answer, SAID: None}
    if isinstance(answer, dict) and isinstance(answer.get(SHOWN_ONCE), str):
        return {**answer, SHOWN_ONCE: answer[SHOWN_ONCE][:20] + "…"}
    return answer

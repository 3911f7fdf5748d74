"""Searching texts that are sealed: by whole words, through an index of their keyed hashes.

The index is written apart from the turns, which it would slow down: by a job every few minutes, and before a search for
what is still missing, up to a number.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Iterable, Sequence
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import QuerySet

from chatplatform import tenancy
from conversations.models import Message, MessageWords
from conversations.vocabulary import RUNNING
from tenants import keyring, secrets
from tenants.models import Tenant
from tenants.vocabulary import TenantStatus

log = structlog.get_logger("conversations.words")
BATCH = 500
MOST_IN_SEARCH = 2_000  # messages that a search indexes itself, newest first: about half a second
MOST_IN_JOB = 50_000  # of one tenant at a time
WORD = re.compile(r"\w+")


def words_of(text: str) -> set[str]:
    """The words of a text, however they are written: small letters, one form of each character."""
    return set(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def hashes_of(words: Iterable[str]) -> list[int]:
    """What stands for words in the index of the current tenant."""
    key = keyring.words_key()
    digests = (hmac.digest(key, word.encode(), "sha256") for word in words)
    return sorted(int.from_bytes(digest[:8], "big", signed=True) for digest in digests)


def with_words(messages: QuerySet[Message], q: str) -> QuerySet[Message]:
    """Those indexed messages that have all the words."""
    wanted = hashes_of(words_of(q))
    return messages.filter(words__hashes__contains=wanted) if wanted else messages.none()


def catch_up(most: int) -> int:
    """Index messages of the current tenant that are not yet, newest first; how many."""
    done = 0
    while done < most:
        count = _index(min(BATCH, most - done))
        if not count:
            break
        done += count
    return done


def missing() -> QuerySet[Message]:
    """Messages that are not indexed yet, and will not change any more."""
    return Message.objects.filter(words__isnull=True).exclude(reply__status__in=RUNNING)


def catch_up_everywhere() -> int:
    """The same for all tenants that are served."""
    with tenancy.in_platform():
        tenants = [tenant.ref for tenant in Tenant.objects.filter(status=TenantStatus.ACTIVE)]
    done = 0
    for tenant in tenants:
        try:
            with tenancy.in_tenant(tenant):
                done += catch_up(MOST_IN_JOB)
        except Exception as error:  # the others must not wait for one that is being erased, say
            log.warning("words_not_indexed", slug=tenant.slug, error=type(error).__name__)
    return done


def _index(most: int) -> int:
    with transaction.atomic():
        # Locked, so that none is deleted meanwhile; what another one has locked, it sees to.
        rows = missing().order_by("-id").select_for_update(of=("self",), no_key=True, skip_locked=True)
        ids = list(rows.values_list("id", flat=True)[:most])
        texts = _texts(ids)
        made = [MessageWords(message_id=id, hashes=hashes_of(words_of(text))) for id, text in texts]
        MessageWords.objects.bulk_create(made, ignore_conflicts=True)
    return len(ids)


def _texts(ids: Sequence[UUID]) -> list[tuple[UUID, str]]:
    """The texts of messages; of one that cannot be opened, none."""
    try:
        return [(message.id, message.content) for message in Message.objects.filter(pk__in=ids)]
    except (secrets.Tampered, secrets.UnknownKey) as error:
        if len(ids) == 1:
            log.warning("message_not_read", message=str(ids[0]), error=type(error).__name__)
            return [(ids[0], "")]
        return [found for id in ids for found in _texts([id])]

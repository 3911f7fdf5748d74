"""Writing prices: from the list, and by staff. A row never changes; each change is in force everywhere within 5 s."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from billing.models import ModelPrice
from billing.models.prices import STAFF
from billing.pricing import by_staff
from billing.services import price_list
from billing.services.price_list import Listed, Rates
from chatplatform import tenancy
from chatplatform.api.problem import invalid
from tenants import audit, control
from tenants.vocabulary import AuditAction

LOCK = 0x63707072  # "cppr": one writer of prices at a time
CHANGED = "prices_changed"
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Update:
    """What a comparison with the list brought: new prices, those of them that a price of staff's keeps from taking
    effect, models that the list does not have any more (their prices stay), and what of the list was left out.
    """

    written: list[Listed]
    held_back: list[str]
    no_longer_listed: list[str]
    left_out: list[str]


def update(*, dry_run: bool = False) -> Update:
    """Write what the list says and the table does not.

    The prices of a model that is new to the table are written with the list's dates, any other new price from now on.
    """
    now = timezone.now()
    wanted, left_out = price_list.listed()
    with tenancy.in_platform(), transaction.atomic():
        _alone()
        rows = list(ModelPrice.objects.order_by("valid_from", "created_at"))
        known = _by_model(_versions(row for row in rows if row.source != STAFF))
        missing = [
            price
            for key, prices in _by_model(wanted).items()
            for price in _missing(known.get(key, []), prices, now)
        ]
        if missing and not dry_run:
            ModelPrice.objects.bulk_create(rows_of(missing))
            audit.record(AuditAction.PRICES_UPDATED, written=len(missing))
    if missing and not dry_run:
        control.publish(CHANGED)
    listed = {(price.provider, price.model) for price in wanted}
    return Update(
        written=missing,
        held_back=[_name(key) for key in _by_model(missing) if by_staff(_of(key, rows))],
        no_longer_listed=[_name(key) for key in known if key not in listed],
        left_out=left_out,
    )


def seed() -> None:
    """The list's prices, for a table that is empty; one query if it is not."""
    with tenancy.in_platform():
        empty = not ModelPrice.objects.exists()
    if empty:
        update()


def override(
    provider: str,
    model: str,
    rates: Sequence[Rates],
    *,
    reason: str,
    author: str,
    names: Sequence[str] = (),
    starts: datetime | None = None,
) -> None:
    """Set a price of our own for a model, from now or a later moment on. It holds until `back_to_list`.

    Raises Problem: no reason, a moment that is over, or one at which a price of ours begins already.
    """
    now = timezone.now()
    if not reason.strip() or not author:
        raise invalid("reason", "Say why.")
    if starts and starts < now:
        raise invalid("starts", "This moment is over, and what was charged stays as it is.")
    price = Listed(provider, model, tuple(names), starts or now, tuple(rates), STAFF)
    with tenancy.in_platform(), transaction.atomic():
        _alone()
        same = ModelPrice.objects.filter(
            provider=provider, model=model, valid_from=price.starts, source=STAFF
        )
        if same.exists():
            raise invalid("starts", "Another price begins at this moment.")
        ModelPrice.objects.bulk_create(rows_of([price], reason=reason.strip(), author=author))
        audit.record(AuditAction.PRICE_SET, f"{provider}/{model}", starts=price.starts)
    control.publish(CHANGED)


def back_to_list(provider: str, model: str, *, reason: str, author: str) -> None:
    """Let the list's price hold again, from now on. Raises Problem if there is none, or it holds already."""
    if not reason.strip() or not author:
        raise invalid("reason", "Say why.")
    now = timezone.now()
    with tenancy.in_platform(), transaction.atomic():
        _alone()
        rows = list(
            ModelPrice.objects.filter(provider=provider, model=model).order_by("valid_from", "created_at")
        )
        latest = _at(_versions(row for row in rows if row.source != STAFF), now)
        if latest is None or not by_staff(rows):
            raise invalid("model", "The list's price holds already, or there is none.")
        again = rows_of([replace(latest, starts=now)], reason=reason.strip(), author=author)
        ModelPrice.objects.bulk_create(again)
        audit.record(AuditAction.PRICE_RESET, f"{provider}/{model}")
    control.publish(CHANGED)


# --- Between the table and the list --------------------------------------------------------------------------------
def _missing(known: list[Listed], wanted: list[Listed], now: datetime) -> list[Listed]:
    """What must be written so that from now on the table says what the list says."""
    if not known:
        return wanted
    found: list[Listed] = []
    for moment in sorted({now, *(price.starts for price in known + wanted if price.starts > now)}):
        want, have = _at(wanted, moment), _at([*known, *found], moment)
        if want and (have is None or (want.names, want.rates) != (have.names, have.rates)):
            found.append(replace(want, starts=moment))
    return found


def _at(prices: Iterable[Listed], moment: datetime) -> Listed | None:
    begun = [price for price in prices if price.starts <= moment]
    return max(enumerate(begun), key=lambda one: (one[1].starts, one[0]))[1] if begun else None


def _by_model(prices: Iterable[Listed]) -> dict[Key, list[Listed]]:
    found: dict[Key, list[Listed]] = defaultdict(list)
    for price in prices:
        found[price.provider, price.model].append(price)
    return found


def _versions(rows: Iterable[ModelPrice]) -> list[Listed]:
    """Rows, oldest first, as the list would say them."""
    found: dict[tuple[Any, ...], Listed] = {}
    for row in rows:
        key = (row.provider, row.model, row.valid_from, row.created_at)
        price = found.get(key) or Listed(
            row.provider, row.model, tuple(row.names), row.valid_from, (), row.source
        )
        rates = sorted([*price.rates, _rates(row)], key=lambda one: one.over_input_tokens)
        found[key] = replace(price, rates=tuple(rates))
    return list(found.values())


def _rates(row: ModelPrice) -> Rates:
    return Rates(
        row.over_input_tokens,
        row.input_price,
        row.cached_input_price,
        row.cache_write_price,
        row.output_price,
    )


def _of(key: Key, rows: Iterable[ModelPrice]) -> list[ModelPrice]:
    return [row for row in rows if (row.provider, row.model) == key]


def rows_of(prices: Iterable[Listed], **more: str) -> Iterator[ModelPrice]:
    """The rows of these prices, not yet written; `more` is their reason and author."""
    written_at = timezone.now()
    for price in prices:
        for rates in price.rates:
            yield ModelPrice(
                provider=price.provider,
                model=price.model,
                names=list(price.names),
                valid_from=price.starts,
                source=price.source,
                created_at=written_at,
                **asdict(rates),
                **more,
            )


def _alone() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def _name(key: Key) -> str:
    return "/".join(key)

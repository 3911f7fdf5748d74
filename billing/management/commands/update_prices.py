"""`manage.py update_prices`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from billing.services import prices
from billing.services.price_list import SOURCE, Listed
from chatplatform.management.base import PlatformCommand, Result, table

COLUMNS = ["provider", "model", "valid_from", "prompts_over", "input", "cached", "cache_write", "output"]


class Command(PlatformCommand):
    help = (
        "Write the prices that the installed genai-prices package has and the table does not. "
        "A price that staff set stays in force."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="Say what would be written, and write nothing"
        )

    def run(self, *, dry_run: bool, **options: Any) -> Result:
        update = prices.update(dry_run=dry_run)
        return {
            "list": SOURCE,
            "dry_run": dry_run,
            "written": [row for price in update.written for row in as_rows(price)],
            "held_back": update.held_back,
            "no_longer_listed": update.no_longer_listed,
            "left_out": update.left_out,
        }

    def as_text(self, result: Result) -> str:
        rows = result["written"]
        if not rows:
            return f"The table says what {SOURCE} says." + _notes(result)
        heading = "Would be written" if result["dry_run"] else "Written"
        return f"{heading} from {SOURCE}:\n{table(COLUMNS, rows)}" + _notes(result)


def as_rows(price: Listed) -> list[dict[str, Any]]:
    """A price as operators want to see it: US dollars for a million tokens, one row for each length of prompt."""
    return [
        {
            "provider": price.provider,
            "model": price.model,
            "valid_from": price.starts.isoformat(),
            "prompts_over": rates.over_input_tokens,
            "input": str(rates.input_price),
            "cached": str(rates.cached_input_price),
            "cache_write": str(rates.cache_write_price),
            "output": str(rates.output_price),
        }
        for rates in price.rates
    ]


def _notes(result: Result) -> str:
    notes = {
        "Not in force, since staff set the price": result["held_back"],
        "No longer in the list, price kept": result["no_longer_listed"],
        "Left out, our table cannot express it": result["left_out"],
    }
    return "".join(f"\n{note}: {', '.join(names)}." for note, names in notes.items() if names)

"""What the providers charge: one row per model and date. A row never changes; a new price is a new row."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from chatplatform.postgres.models import SharedModel

STAFF = "staff"


def per_million() -> models.DecimalField[Decimal, Decimal]:
    """US dollars for a million tokens."""
    return models.DecimalField(max_digits=18, decimal_places=9, validators=[MinValueValidator(Decimal(0))])


class ModelPrice(SharedModel):
    """The price of a model from `valid_from` until the next row of the same model begins.

    `names` are the names it is called by, `model` alone if there are none; `*` stands for any text, `#` for a digit.
    Where a price depends on the length of the prompt, each further step is a row with its own `over_input_tokens`.
    A price of staff's stays in force, whatever the list says later, until staff writes the list's price again.
    """

    provider = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    names = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    valid_from = models.DateTimeField(default=timezone.now)
    over_input_tokens = models.PositiveIntegerField(
        default=0, help_text="Holds for calls whose prompt is longer than this"
    )
    input_price = per_million()
    cached_input_price = per_million()
    cache_write_price = per_million()
    output_price = per_million()
    source = models.CharField(
        max_length=60, help_text="Where it comes from: genai-prices and its version, or staff"
    )
    reason = models.CharField(max_length=300, blank=True, default="")
    author = models.CharField(
        max_length=200, blank=True, default="", help_text="Who decided it; empty where the list did"
    )
    # The same for all rows of a price and its steps.
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["provider", "model", "-valid_from", "over_input_tokens"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "model", "valid_from", "source", "over_input_tokens"],
                name="one_price_per_model_and_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"

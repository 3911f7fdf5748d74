"""What other apps may want to hear of."""

from __future__ import annotations

from django.dispatch import Signal

tier_changes = Signal()
"""In the platform's context and the transaction of the change, with `tenant` (as it was) and `tier` (the new one)."""

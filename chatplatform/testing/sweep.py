"""Gives back what dead attempts hold of budgets, at once: `python -m chatplatform.testing.sweep`."""

from __future__ import annotations

import django

if __name__ == "__main__":
    django.setup()

    from conversations.services import holds

    holds.return_all_dead(after=0)

"""What other apps may want to hear of."""

from __future__ import annotations

from django.dispatch import Signal

budget_threshold_reached = Signal()
"""In the tenant's context, with `tenant` (TenantRef), `limit` (BudgetLimit), `percent`, `spent`, `of`, `period`."""

"""What `manage.py check_isolation` found, each time it was run."""

from __future__ import annotations

from django.db import models

from chatplatform.postgres.models import SharedModel


class IsolationReport(SharedModel):
    """One run; without an `ok` it is under way, or was killed."""

    began_at = models.DateTimeField(auto_now_add=True)
    ok = models.BooleanField(null=True)
    report = models.JSONField(default=dict, help_text="As `--json` prints it")

    class Meta:
        ordering = ["-began_at"]

    def __str__(self) -> str:
        return f"Isolation on {self.began_at:%Y-%m-%d %H:%M}"

"""`manage.py ensure_demo`: what `make run` has in it on the first day."""

from __future__ import annotations

from typing import Any

from chatplatform.management import demo
from chatplatform.management.base import PlatformCommand, Result


class Command(PlatformCommand):
    help = (
        "Make the tenant demo with its handbook, an API key and the staff login, as far as they are missing. "
        "Secrets are shown once: they are empty when DATA_DIR/run.json already holds them."
    )

    def run(self, **options: Any) -> Result:
        return {**demo.ensure()}

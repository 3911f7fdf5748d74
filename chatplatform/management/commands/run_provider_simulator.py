"""``manage.py run_provider_simulator``"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from chatplatform.testing.simulator import cli


class Command(BaseCommand):
    help = (
        "Serve simulated OpenAI and Anthropic endpoints for development, tests and benchmarks. "
        "Prints the base URLs to set, then serves until Ctrl-C. "
        "Exit status: 1 for a busy port, 2 for a bad option."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        cli.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        code = cli.run(argparse.Namespace(**options), self._announce)
        if code:
            sys.exit(code)

    def _announce(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

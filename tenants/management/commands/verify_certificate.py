"""`manage.py verify_certificate FILE`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import Error, PlatformCommand, Result
from tenants.audit import certificates


class Command(PlatformCommand):
    help = (
        "Whether a certificate of erasure is one that this installation signed, unchanged. Status 1 if not."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="The certificate, as JSON")

    def run(self, *, file: Path, **options: Any) -> Result:
        try:
            certificate = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise Error(f"{file} cannot be read as JSON.") from error
        if not isinstance(certificate, dict) or not certificates.is_genuine(certificate):
            raise Error(f"{file} was not signed here, or was changed.")
        return {"genuine": True}

    def as_text(self, result: Result) -> str:
        return "It is genuine."

"""DATA_DIR/run.json: what `make run` printed, for the next start and for other programs to read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

KEYS = ("chat", "admin", "api", "api_key", "staff_user", "staff_password")


class RunFile:
    """The file of one DATA_DIR. Only its owner may read it: it holds the demo's secrets."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "run.json"

    def exists(self) -> bool:
        return self.path.exists()

    def update(self, facts: Mapping[str, str]) -> dict[str, str]:
        """Write what is known now over what an earlier run wrote, and return the whole, in the order of KEYS.

        Secrets are shown once: a fact that is missing now keeps its earlier value.
        """
        known = {**self._read(), **facts}
        whole = {key: known[key] for key in KEYS if key in known}
        draft = self.path.with_suffix(".json.new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(whole, file, indent=1)
        draft.replace(self.path)
        return whole

    def _read(self) -> dict[str, str]:
        try:
            return dict(json.loads(self.path.read_text()))
        except (FileNotFoundError, ValueError):
            return {}

"""Deletes a DATA_DIR, unless somebody uses it: `python -m chatplatform.embedded.clear DATA_DIR`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from chatplatform.embedded import ownership
from chatplatform.embedded.paths import locations


def clear(data_dir: Path) -> str | None:
    """Delete all that is under a DATA_DIR. The reason if it was not: it is in use, or is something else."""
    where = locations(data_dir)
    if not where.data_dir.exists():
        return None
    known = where.owner_lock.exists() or (where.data_dir / "secrets").exists()
    if not known and any(where.data_dir.iterdir()):
        return f"{where.data_dir} does not look like a data directory of this platform"
    lock = ownership.take_ownership(where.owner_lock)
    if lock is None:
        return f"{where.data_dir} is in use by {ownership.describe_owner(where.owner_lock)}"
    shutil.rmtree(where.data_dir)
    lock.release()
    return None


if __name__ == "__main__":
    sys.exit(clear(Path(sys.argv[1])))

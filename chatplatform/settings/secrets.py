"""Secrets that nobody set: generated once, kept under DATA_DIR, readable by the owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def place_of(data_dir: Path, name: str) -> Path:
    """Where the generated secret of this name is kept."""
    return data_dir / "secrets" / name


def generated(data_dir: Path, name: str) -> str:
    """The secret of this name, made at the first call. Safe when several processes ask at once."""
    file = place_of(data_dir, name)
    try:
        return file.read_text()
    except FileNotFoundError:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written aside and linked: a reader sees the whole secret or none, and the first writer wins.
    draft = file.with_suffix(f".{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_urlsafe(48))
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return file.read_text()

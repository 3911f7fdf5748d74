"""The audit log. `record` is all that the rest of the platform needs of it; see docs/security.md."""

from tenants.audit.keys import digest
from tenants.audit.recording import record

__all__ = ["digest", "record"]

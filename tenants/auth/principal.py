"""Who is calling, whatever the credential was."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tenants.selectors import TenantState
from tenants.vocabulary import Scope


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `credential` names what it came with, for idempotency; a contact may act in its own talks only.

    `rests_on` are the things that the credential stands on (see `tenants.auth.standing`), beside its tenant; it is good
    until `expires_at`, in Unix seconds.
    """

    credential: str
    scopes: frozenset[str]
    tenant: TenantState | None
    platform: bool = False
    contact_id: UUID | None = None
    rests_on: tuple[str, ...] = ()
    expires_at: float | None = None

    is_authenticated = True  # what Django REST framework asks of a user

    @property
    def actor(self) -> tuple[str, str]:
        """Who this is in the audit log: the kind and the id of the credential."""
        kind, _, id = self.credential.partition(":")
        return kind, id

    def allows(self, scope: str) -> bool:
        """Whether the credential carries a scope; `platform` carries all of them."""
        return scope in self.scopes or Scope.PLATFORM in self.scopes

"""What a member of a tenant may do: one closed table. Whoever wants to know asks an `access_*` function."""

from __future__ import annotations

from collections.abc import Mapping

from tenants.vocabulary import Action, MemberRole

ALLOWED: Mapping[MemberRole, frozenset[Action]] = {
    MemberRole.OWNER: frozenset(Action),
    MemberRole.ADMIN: frozenset(Action) - {Action.MANAGE_OWNERS, Action.MANAGE_SIGN_IN},
    MemberRole.ANALYST: frozenset(
        {Action.VIEW_USAGE, Action.VIEW_INVOICES, Action.READ_CONVERSATIONS, Action.VIEW_CONFIGURATION}
    ),
    MemberRole.SUPPORT: frozenset({Action.READ_CONVERSATIONS}),
    MemberRole.VIEWER: frozenset({Action.VIEW_USAGE}),
}


def may(role: str, action: Action) -> bool:
    """Whether the table allows it."""
    return action in ALLOWED[MemberRole(role)]

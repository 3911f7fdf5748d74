"""The names of roles and schemas. Roles belong to the whole server, so they carry the database's name."""

from __future__ import annotations

import re

LONGEST = 63
SCHEMA = re.compile(r"t_[a-z0-9_]{1,58}")


def owner_role(database: str) -> str:
    """Owns every table and schema; nobody logs in as it."""
    return _checked(f"{database}_owner")


def platform_role(database: str) -> str:
    """May read and write the shared tables: the control plane."""
    return _checked(f"{database}_platform")


def tenant_role(database: str, schema: str) -> str:
    """May read and write one tenant's schema, and nothing else."""
    return _checked(f"{database}_{schema}")


def schema_for(slug: str) -> str:
    """The schema of the tenant with this slug (a DNS label)."""
    return checked_schema("t_" + slug.replace("-", "_"))


def checked_schema(schema: str) -> str:
    """The name itself if it can be a tenant's schema. Raises ValueError if not."""
    if not SCHEMA.fullmatch(schema):
        raise ValueError(f"{schema!r} cannot be the schema of a tenant")
    return schema


def _checked(role: str) -> str:
    if len(role.encode()) > LONGEST:
        raise ValueError(
            f"The role name {role!r} is longer than PostgreSQL's {LONGEST} bytes: shorten the database's"
        )
    return role

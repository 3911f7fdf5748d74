"""The staff console's pages about tenants, people, keys and logs. Parses and shows; services decide."""

from tenants.admin.issuers import SigningKeyAdmin, TokenIssuerAdmin
from tenants.admin.keys import ApiKeyAdmin
from tenants.admin.logs import LogEntryAdmin, StaffLookAdmin
from tenants.admin.people import GroupAdmin, UserAdmin
from tenants.admin.tenants import TenantAdmin

__all__ = [
    "ApiKeyAdmin",
    "GroupAdmin",
    "LogEntryAdmin",
    "SigningKeyAdmin",
    "StaffLookAdmin",
    "TenantAdmin",
    "TokenIssuerAdmin",
    "UserAdmin",
]

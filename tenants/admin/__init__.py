"""The staff console's pages about tenants, people, keys and logs. Parses and shows; services decide."""

from tenants.admin.audit import AuditEntryAdmin
from tenants.admin.isolation import IsolationReportAdmin
from tenants.admin.issuers import SigningKeyAdmin, TokenIssuerAdmin
from tenants.admin.keys import ApiKeyAdmin
from tenants.admin.people import GroupAdmin, UserAdmin
from tenants.admin.tenants import TenantAdmin

__all__ = [
    "ApiKeyAdmin",
    "AuditEntryAdmin",
    "GroupAdmin",
    "IsolationReportAdmin",
    "SigningKeyAdmin",
    "TenantAdmin",
    "TokenIssuerAdmin",
    "UserAdmin",
]

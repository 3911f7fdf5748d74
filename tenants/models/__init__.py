from tenants.models.api_key import ApiKey
from tenants.models.configuration import ConfigurationVersion
from tenants.models.contact import Contact
from tenants.models.idempotency import PlatformIdempotencyRecord, TenantIdempotencyRecord
from tenants.models.membership import MemberSession, Membership, SignInTries
from tenants.models.signing_key import SigningKey
from tenants.models.staff import StaffLook, User
from tenants.models.tenant import Domain, Tenant
from tenants.models.token_issuer import TokenIssuer

__all__ = [
    "ApiKey",
    "ConfigurationVersion",
    "Contact",
    "Domain",
    "MemberSession",
    "Membership",
    "PlatformIdempotencyRecord",
    "SignInTries",
    "SigningKey",
    "StaffLook",
    "Tenant",
    "TenantIdempotencyRecord",
    "TokenIssuer",
    "User",
]

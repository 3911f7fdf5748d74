from tenants.models.api_key import ApiKey
from tenants.models.audit import AuditEntry, AuditHead
from tenants.models.configuration import ConfigurationVersion
from tenants.models.contact import Contact
from tenants.models.idempotency import PlatformIdempotencyRecord, TenantIdempotencyRecord
from tenants.models.isolation import IsolationReport
from tenants.models.keys import DataKey, DeletedKeys, TenantKey
from tenants.models.membership import MemberSession, Membership, SignInTries
from tenants.models.sign_in import MemberIdentity, SecondFactor, SignInProvider
from tenants.models.signing_key import SigningKey
from tenants.models.staff import User
from tenants.models.tenant import Domain, Tenant
from tenants.models.token_issuer import TokenIssuer

__all__ = [
    "ApiKey",
    "AuditEntry",
    "AuditHead",
    "ConfigurationVersion",
    "Contact",
    "DataKey",
    "DeletedKeys",
    "Domain",
    "IsolationReport",
    "MemberIdentity",
    "MemberSession",
    "Membership",
    "PlatformIdempotencyRecord",
    "SecondFactor",
    "SignInProvider",
    "SignInTries",
    "SigningKey",
    "Tenant",
    "TenantIdempotencyRecord",
    "TenantKey",
    "TokenIssuer",
    "User",
]

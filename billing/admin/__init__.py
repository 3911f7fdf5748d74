"""The staff console's pages about money. Parses and shows; services decide."""

from billing.admin.documents import IssuedDocumentAdmin
from billing.admin.plans import PlanAdmin
from billing.admin.prices import ModelPriceAdmin
from billing.admin.recipients import IssuerAdmin

__all__ = ["IssuedDocumentAdmin", "IssuerAdmin", "ModelPriceAdmin", "PlanAdmin"]

"""The staff console's pages about money. Parses and shows; services decide."""

from billing.admin.plans import PlanAdmin
from billing.admin.prices import ModelPriceAdmin
from billing.admin.recipients import IssuerAdmin

__all__ = ["IssuerAdmin", "ModelPriceAdmin", "PlanAdmin"]

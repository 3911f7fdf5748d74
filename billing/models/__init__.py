from billing.models.budgets import EVER, NOBODY, Balance, BudgetNotice, Hold
from billing.models.invoices import BillingAccount, Invoice, InvoiceLine, IssuedDocument, Issuer, Payment
from billing.models.ledger import CALLED, LedgerEntry
from billing.models.plans import Plan, PlanVersion, Subscription
from billing.models.prices import ModelPrice

__all__ = [
    "CALLED",
    "EVER",
    "NOBODY",
    "Balance",
    "BillingAccount",
    "BudgetNotice",
    "Hold",
    "Invoice",
    "InvoiceLine",
    "IssuedDocument",
    "Issuer",
    "LedgerEntry",
    "ModelPrice",
    "Payment",
    "Plan",
    "PlanVersion",
    "Subscription",
]

"""The staff console's pages about money. Parses and shows; services decide."""

from billing.admin.documents import IssuedDocumentAdmin

__all__ = ["IssuedDocumentAdmin"]

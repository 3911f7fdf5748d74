"""The pages about money in a tenant's console: overview, usage, invoices."""

"""The staff console's pages about what a tenant spends: through the staff view, each look logged."""

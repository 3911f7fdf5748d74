"""The staff console's pages about conversations: one tenant at a time, through the staff view, each look logged."""

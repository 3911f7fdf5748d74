"""The console of a tenant's own people, on its hosts: signing in, members, one's own account."""

"""`manage.py check_isolation`: what there is (surface), how it is asked (caller, work) and looked at (walk, stored)."""

"""`manage.py check_isolation`: what there is (surface), how it is asked (caller, work), what is made of it (walk, stored)."""

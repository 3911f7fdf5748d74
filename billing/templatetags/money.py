"""`{% load money %}`: `usd`, `exact_usd` and `count` for templates."""

from __future__ import annotations

from django import template

from billing import presentation

register = template.Library()
for one in (presentation.usd, presentation.exact_usd, presentation.count):
    register.filter(one.__name__, one)

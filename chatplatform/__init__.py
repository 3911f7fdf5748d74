"""chatplatform: mechanisms, and the composition root of the five apps."""

from typing import Any


def __getattr__(name: str) -> Any:
    # `celery -A chatplatform` looks for `app` here; importing it only then keeps plain modules free of Django.
    if name in ("app", "celery"):
        import importlib

        module = importlib.import_module("chatplatform.celery")
        return module.app if name == "app" else module
    raise AttributeError(name)

from __future__ import annotations

import importlib

from django.apps import AppConfig


class ChatplatformConfig(AppConfig):
    name = "chatplatform"

    def ready(self) -> None:
        # Every process sends jobs, so every process has the Celery application, in all its threads.
        importlib.import_module("chatplatform.celery").app.set_default()
        importlib.import_module("chatplatform.api.schema")
        importlib.import_module("chatplatform.observability.sentry").start()

from __future__ import annotations

from django.apps import AppConfig


class ConversationsConfig(AppConfig):
    name = "conversations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from chatplatform.observability import metrics
        from conversations.services import leases

        metrics.before_scrape(leases.measure)

"""The Celery application: `celery -A chatplatform worker`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init
from kombu.transport import redis
from redis.exceptions import ConnectionError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatplatform.settings")

app = Celery("chatplatform")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["tenants", "conversations"])


@setup_logging.connect
def keep_our_logging(**kwargs: Any) -> None:
    """Celery would set up its own; Django's settings have done so already. Connecting is what stops it."""


class Channel(redis.Channel):
    """Asks for jobs for half a second at a time: so long may a worker that is stopped have to wait for the answer.

    And it says that its connection is gone in words that Celery understands.

    When the broker goes away, what was under way is acknowledged or handed back over a channel that is closed by then.
    kombu raises AttributeError there, which Celery takes for a reason to end the worker, instead of reconnecting.
    """

    brpop_timeout = 0.5  # type: ignore[assignment]

    def _connparams(self, asynchronous: bool = False) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionError("The channel is closed.")
        return super()._connparams(asynchronous)  # type: ignore[misc]


redis.Transport.Channel = Channel


@worker_init.connect
def start_loop(**kwargs: Any) -> None:
    """The event loop, its lease keeper and the SDKs are there before the first reply asks for them."""
    from chatplatform import jobs

    jobs.start_loop()

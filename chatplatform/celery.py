"""The Celery application: `celery -A chatplatform worker`."""

from __future__ import annotations

import os
from typing import Any

import orjson
from celery import Celery
from celery.signals import setup_logging, worker_init
from kombu import serialization
from kombu.transport import redis, virtual
from kombu.utils import json
from redis.exceptions import ConnectionError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatplatform.settings")

FOUND_AGAIN = frozenset({"conversations.generate_reply"})  # jobs that PostgreSQL remembers

app = Celery("chatplatform")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["tenants", "conversations", "billing"])


@setup_logging.connect
def keep_our_logging(**kwargs: Any) -> None:
    """Celery would set up its own; Django's settings have done so already. Connecting is what stops it."""


class QoS(redis.QoS):
    """Keeps no list in Valkey of the replies that are under way, as it does of other jobs.

    The work table in PostgreSQL is that list, and a better one: what a dead worker left is found in seconds, not after
    an hour. So two transactions in Valkey for each reply would bring nothing.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        if message.headers.get("task") in FOUND_AGAIN:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        if self._only_here(delivery_tag):
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if self._only_here(delivery_tag) and not requeue:
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().reject(delivery_tag, requeue)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        if not self._only_here(tag):
            super().restore_by_tag(tag, client, leftmost)
            return
        message = self.get(tag)
        route = message.delivery_info["exchange"], message.delivery_info["routing_key"]
        channel: Any = self.channel
        with channel.conn_or_acquire(client) as connection:
            channel._do_restore_message(message._raw, *route, connection, leftmost)

    def _only_here(self, tag: str) -> bool:
        delivered: Any = self._delivered
        message = delivered.get(tag)
        return message is not None and message.headers.get("task") in FOUND_AGAIN


class Channel(redis.Channel):
    """Asks for jobs for half a second at a time: so long may a worker that is stopped have to wait for the answer.

    It keeps its client: kombu makes one for each job that it sends, which takes longer than sending it.

    And it says that its connection is gone in words that Celery understands.

    When the broker goes away, what was under way is acknowledged or handed back over a channel that is closed by then.
    kombu raises AttributeError there, which Celery takes for a reason to end the worker, instead of reconnecting.
    """

    QoS = QoS
    brpop_timeout = 0.5  # type: ignore[assignment]
    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[misc]
        return self._kept

    def _connparams(self, asynchronous: bool = False) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionError("The channel is closed.")
        return super()._connparams(asynchronous)  # type: ignore[misc]


def loads(text: Any, **options: Any) -> Any:
    """As kombu reads JSON, which calls Python for each object in it, for the sake of times and such. A message comes as
    text, its body as bytes.
    """
    marker: Any = b'"__type__"' if isinstance(text, bytes) else '"__type__"'
    plain = isinstance(text, str | bytes) and marker not in text
    return orjson.loads(text) if plain else json.loads(text, **options)


redis.Transport.Channel = Channel
redis.loads = loads  # type: ignore[attr-defined]
serialization.register("json", json.dumps, loads, "application/json", "utf-8")


@worker_init.connect
def start_loop(**kwargs: Any) -> None:
    """The event loop, its lease keeper, the SDKs and the embedding model are there before the first job is taken.

    While they load, other threads may wait for seconds on a busy machine, and leases taken by then would run out.
    """
    from chatplatform import jobs, startup

    startup.check()
    jobs.start_loop()
    jobs.warm_up()

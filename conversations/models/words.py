"""What messages are searched by: their words, hidden by a key of the tenant's."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models

from chatplatform.tenancy import Home
from conversations.models.conversation import Message


class MessageWords(models.Model):
    """The different words of a message, each as 64 bits of a keyed hash. It goes with the message."""

    home = Home.TENANT

    message = models.OneToOneField(Message, on_delete=models.CASCADE, primary_key=True, related_name="words")
    hashes = ArrayField(models.BigIntegerField())

    class Meta:
        indexes = [GinIndex(fields=["hashes"], name="message_by_word")]

    def __str__(self) -> str:
        return f"words of {self.message_id}"

from __future__ import annotations

from django.urls import path

from conversations.api import contacts, messages, usage, views

ONE = "conversations/<uuid:conversation_id>"

urlpatterns = [
    path(f"{ONE}/messages", messages.Messages.as_view(), name="messages"),  # first: each turn
    path("conversations", views.Conversations.as_view(), name="conversations"),
    path(ONE, views.OneConversation.as_view(), name="conversation"),
    path(f"{ONE}/messages/<uuid:message_id>/feedback", views.GiveFeedback.as_view(), name="feedback"),
    path(f"{ONE}/replies/<uuid:reply_id>", views.OneReply.as_view(), name="reply"),
    path(f"{ONE}/replies/<uuid:reply_id>/events", messages.ReplyEvents.as_view(), name="reply-events"),
    path(f"{ONE}/replies/<uuid:reply_id>/cancel", views.Cancel.as_view(), name="cancel"),
    path(f"{ONE}/rating", views.Rate.as_view(), name="rating"),
    path(f"{ONE}/resolve", views.Resolve.as_view(), name="resolve"),
    path(f"{ONE}/escalate", views.Escalate.as_view(), name="escalate"),
    path("tenants/<slug:slug>/usage", usage.Usage.as_view(), name="tenant-usage"),
    path("tenants/<slug:slug>/contacts/<path:contact>", contacts.OneContact.as_view(), name="tenant-contact"),
    path("ws-tickets", views.Tickets.as_view(), name="ws-tickets"),
]

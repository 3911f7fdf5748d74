"""Conversations over REST."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from chatplatform.api.pagination import PAGE, paginated
from chatplatform.api.problem import Code, Problem, invalid
from conversations import selectors
from conversations.api import serializers
from conversations.models import Conversation
from conversations.services import access, conversations, tickets, turns
from tenants.api.base import ApiView
from tenants.auth.authentication import BearerAuthentication, VisitorAuthentication
from tenants.auth.principal import Principal
from tenants.models import Contact
from tenants.services.contacts import contact_for

NOT_FOR_CONTACTS = ("model", "fallback_model", "system_prompt", "temperature", "end_user", "tools")


class ChatView(ApiView):
    """For API keys with the scope `chat`, and for end users: with a token, or a cookie of the tenant's own pages."""

    for_contacts = True

    authentication_classes = [BearerAuthentication, VisitorAuthentication]

    def conversation(self, conversation_id: UUID) -> Conversation:
        return access.access_conversation(self.principal, conversation_id)


def refuse_choices(principal: Principal, body: Any) -> None:
    """End users do not choose models, prompts or tools. Raises Problem `not_allowed`."""
    chosen = [name for name in NOT_FOR_CONTACTS if body.get(name) is not None]
    if principal.contact_id is not None and chosen:
        raise Problem(Code.NOT_ALLOWED, f"An end user may not choose {chosen[0]}.")


class Conversations(ChatView):
    @extend_schema(
        operation_id="begin_conversation",
        request=serializers.NewConversation,
        examples=serializers.CONVERSATIONS,
        responses={201: serializers.ConversationShape},
    )
    def post(self, request: Request) -> Response:
        """Begin a conversation; end users may not choose a model, a prompt or whom it is with."""
        refuse_choices(self.principal, request.data)
        wanted = serializers.NewConversation(data=request.data)
        wanted.is_valid(raise_exception=True)
        values = {name: value for name, value in wanted.validated_data.items() if value is not None}
        if end_user := values.pop("end_user", None):
            values["contact"] = contact_for(**end_user)
        elif self.principal.contact_id is not None:
            values["contact"] = Contact.objects.filter(pk=self.principal.contact_id).first()
            if values["contact"] is None:  # erased while its token or cookie is still good
                raise Problem(Code.NOT_AUTHENTICATED)
        return Response(selectors.conversation_as_json(conversations.begin(**values)), status=201)

    @extend_schema(operation_id="list_conversations", parameters=PAGE, responses=serializers.ConversationPage)
    def get(self, request: Request) -> Response:
        """List conversations, the newest first; an end user sees its own."""
        rows = Conversation.objects.select_related("contact")
        if self.principal.contact_id is not None:
            rows = rows.filter(contact_id=self.principal.contact_id)
        return paginated(request, rows, "-id", selectors.conversation_as_json)


class OneConversation(ChatView):
    @extend_schema(operation_id="get_conversation", responses=serializers.ConversationShape)
    def get(self, request: Request, conversation_id: UUID) -> Response:
        """Show a conversation."""
        return Response(selectors.conversation_as_json(self.conversation(conversation_id)))


class OneReply(ChatView):
    @extend_schema(operation_id="get_reply", responses=serializers.ReplyShape)
    def get(self, request: Request, conversation_id: UUID, reply_id: UUID) -> Response:
        """Show a reply, as far as it has come."""
        reply = access.access_reply(self.conversation(conversation_id), reply_id)
        return Response(selectors.reply_as_json(reply))


class Cancel(ChatView):
    @extend_schema(operation_id="cancel_reply", request=None, responses={202: serializers.ReplyShape})
    def post(self, request: Request, conversation_id: UUID, reply_id: UUID) -> Response:
        """Stop a reply: what was generated is kept and billed. A finished one stays as it is."""
        reply = access.access_reply(self.conversation(conversation_id), reply_id)
        return Response(selectors.reply_as_json(turns.cancel(reply)), status=202)


class GiveFeedback(ChatView):
    @extend_schema(
        operation_id="give_feedback", request=serializers.NewFeedback, responses=serializers.FeedbackShape
    )
    def post(self, request: Request, conversation_id: UUID, message_id: UUID) -> Response:
        """Rate an assistant's message, up or down; replaces an earlier rating."""
        message = access.access_assistant_message(self.conversation(conversation_id), message_id)
        wanted = serializers.NewFeedback(data=request.data)
        wanted.is_valid(raise_exception=True)
        given = conversations.give_feedback(
            message, wanted.validated_data["rating"], wanted.validated_data.get("comment")
        )
        return Response({"rating": given.rating, "comment": given.comment})


class Rate(ChatView):
    @extend_schema(
        operation_id="rate_conversation",
        request=serializers.NewRating,
        responses=serializers.ConversationShape,
    )
    def post(self, request: Request, conversation_id: UUID) -> Response:
        """Give a conversation one to five stars."""
        wanted = serializers.NewRating(data=request.data)
        wanted.is_valid(raise_exception=True)
        rated = conversations.rate(
            self.conversation(conversation_id),
            wanted.validated_data["stars"],
            wanted.validated_data.get("comment"),
        )
        return Response(selectors.conversation_as_json(rated))


class Resolve(ChatView):
    @extend_schema(operation_id="resolve_conversation", request=None, responses=serializers.ConversationShape)
    def post(self, request: Request, conversation_id: UUID) -> Response:
        """Close a conversation (end users may not); the next message opens it again."""
        if self.principal.contact_id is not None:
            raise Problem(Code.NOT_ALLOWED, "An end user may not resolve a conversation.")
        resolved = conversations.resolve(self.conversation(conversation_id))
        return Response(selectors.conversation_as_json(resolved))


class Escalate(ChatView):
    @extend_schema(
        operation_id="escalate_conversation",
        request=serializers.NewEscalation,
        responses=serializers.ConversationShape,
    )
    def post(self, request: Request, conversation_id: UUID) -> Response:
        """Ask for a person."""
        wanted = serializers.NewEscalation(data=request.data)
        wanted.is_valid(raise_exception=True)
        escalated = conversations.escalate(
            self.conversation(conversation_id), wanted.validated_data.get("reason")
        )
        return Response(selectors.conversation_as_json(escalated))


class Tickets(ChatView):
    idempotent = False

    @extend_schema(
        operation_id="issue_ws_ticket",
        request=serializers.NewTicket,
        examples=serializers.TICKETS,
        responses={201: serializers.TicketShape},
    )
    def post(self, request: Request) -> Response:
        """Make a ticket for one WebSocket: good once, for 30 seconds."""
        wanted = serializers.NewTicket(data=request.data)
        wanted.is_valid(raise_exception=True)
        origin = wanted.validated_data.get("origin")
        if origin is not None and self.principal.contact_id is not None:
            raise Problem(Code.NOT_ALLOWED, "An end user may not choose a ticket's origin.")
        if origin is not None and "://" not in origin:
            raise invalid("origin", "An origin such as https://shop.example.")
        conversation = self.conversation(wanted.validated_data["conversation_id"])
        ticket = async_to_sync(tickets.issue)(conversation, origin, self.principal)
        return Response({"ticket": ticket, "expires_in": tickets.LIFETIME}, status=201)

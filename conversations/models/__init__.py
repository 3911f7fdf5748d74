from conversations.models.conversation import Conversation, Feedback, Message
from conversations.models.reply import Reply
from conversations.models.work import Work

__all__ = ["Conversation", "Feedback", "Message", "Reply", "Work"]

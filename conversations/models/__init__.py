from conversations.models.conversation import Conversation, Feedback, Message
from conversations.models.knowledge import Chunk, Document, DocumentStatus
from conversations.models.reply import Reply
from conversations.models.words import MessageWords
from conversations.models.work import Work

__all__ = [
    "Chunk",
    "Conversation",
    "Document",
    "DocumentStatus",
    "Feedback",
    "Message",
    "MessageWords",
    "Reply",
    "Work",
]

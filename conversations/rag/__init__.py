"""Retrieval: documents to chunks, chunks to passages that answer a question. See docs/knowledge.md."""

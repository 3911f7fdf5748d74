"""`python -m conversations.tests.look_around ARCHIVE SLUG CONVERSATION WORD QUESTION`: sets an installation up, makes a
tenant out of the archive, and prints what is shown of it, as JSON: to an API key, to staff who search for a word, and
to a question put to its knowledge.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django


def main(archive: str, slug: str, conversation: str, word: str, question: str) -> dict[str, Any]:
    from django.test import Client

    from chatplatform import tenancy
    from chatplatform.testing import cast
    from chatplatform.testing.commands import result_of
    from conversations.rag.retrieval import find
    from conversations.services import embedding
    from tenants.tests.console import Console, person

    result_of("migrate_tenants")
    result_of("import_tenant", archive, "--slug", slug)
    headers: Any = {
        "authorization": f"Bearer {result_of('create_api_key', slug, '--scope', 'chat')['api_key']}"
    }
    messages = Client(headers=headers).get(f"/api/v1/conversations/{conversation}/messages")
    staff = Console(person("looking", superuser=True))
    with tenancy.in_tenant(cast.state(slug).ref):
        found = find(question, limit=3, using=embedding.outside_of_turns())
        passages = [passage.text for passage in found.nearest]
    return {
        "messages": [row["content"] for row in messages.json()["results"]],
        "console": staff.text(f"conversations/{slug}/{conversation}/"),
        "found": conversation in staff.text(f"conversations/{slug}/", q=word),
        "not_found": conversation in staff.text(f"conversations/{slug}/", q="platypus"),
        "passages": passages,
    }


if __name__ == "__main__":
    django.setup()
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))

"""`manage.py evaluate_retrieval SLUG`: the question set against a tenant that holds the demo handbook."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from chatplatform.management.base import PlatformCommand, Result
from chatplatform.tenancy import in_tenant
from conversations.rag import evaluation
from conversations.rag.retrieval import retrieve
from conversations.services import embedding
from tenants.selectors import tenant_by_slug

LIMIT = 3  # as many as the local provider quotes
HANDBOOK = Path(settings.BASE_DIR) / "tenants" / "demo" / "handbook"


class Command(PlatformCommand):
    help = "Ask a tenant that holds the demo handbook the evaluation questions, and count right answers and refusals."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", nargs="?", default="demo", help="The tenant (demo)")
        parser.add_argument("--split", choices=[*evaluation.SPLITS, "both"], default="both")
        parser.add_argument("--wrong", action="store_true", help="List the questions that went wrong")

    def run(self, *, slug: str, split: str, wrong: bool, **options: Any) -> Result:
        wanted = evaluation.SPLITS if split == "both" else (split,)
        cases = [case for case in evaluation.load_cases(HANDBOOK) if case.split in wanted]
        started = time.perf_counter()
        with in_tenant(tenant_by_slug(slug).ref):
            using = embedding.outside_of_turns()
            outcomes = evaluation.evaluate(
                cases, lambda question: retrieve(question, limit=LIMIT, using=using)
            )
        seconds = time.perf_counter() - started
        result: Result = {
            name: asdict(evaluation.figures(one for one in outcomes if one.case.split == name))
            for name in wanted
        }
        if wrong:
            missed = [one for one in outcomes if not one.is_right]
            result["wrong"] = [{"question": one.case.question, "shown": one.shown} for one in missed]
        return {**result, "milliseconds_per_question": round(1000 * seconds / len(cases), 1)}

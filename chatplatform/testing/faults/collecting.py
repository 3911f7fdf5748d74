"""Gathers, after a run, what is stored: rows, event logs, what REST tells, and what a late reader gets."""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import Any

import aiohttp
import orjson

from chatplatform.testing.faults.history import Call, Evidence, Stored, View
from chatplatform.testing.faults.visitors import Surroundings, Visitor
from chatplatform.testing.stage import Stage

AT_ONCE = 8  # late readers
READ_WITHIN = 20.0  # s
REPLIES = """
    SELECT r.message_id::text, r.conversation_id::text, r.user_message_id::text, coalesce(q.client_id, ''), r.status,
           r.attempt, r.error_detail, r.provider, coalesce(extract(epoch FROM r.completed_at), 0)::float
    FROM conversations_reply r JOIN conversations_message q ON q.id = r.user_message_id
"""

OWN_HOLDS = """
    SELECT hold.reply::text FROM billing_hold AS hold JOIN conversations_reply AS reply ON reply.message_id = hold.reply
    WHERE reply.attempt = hold.attempt AND reply.status NOT IN ('queued', 'generating')
"""
# Balances that differ from the sum of what counts on them: dollars and tokens spent, and nothing held.
SUMS = """
    WITH counted AS (
        SELECT level, subject, period, sum(charged_usd) AS usd, sum(input_tokens + output_tokens) AS tokens
        FROM billing_ledgerentry, LATERAL (VALUES
            ('1_conversation', conversation, DATE '1970-01-01'),
            ('2_contact_month', contact, date_trunc('month', day)::date),
            ('3_tenant_day', '00000000-0000-0000-0000-000000000000'::uuid, day),
            ('4_tenant_month', '00000000-0000-0000-0000-000000000000'::uuid, date_trunc('month', day)::date)
        ) AS levels (level, subject, period)
        WHERE subject IS NOT NULL GROUP BY 1, 2, 3
    )
    SELECT coalesce(balance.level, counted.level), coalesce(balance.period, counted.period)::text,
        concat_ws(' ', spent_usd, spent_tokens, held_usd, held_tokens), concat_ws(' ', usd, tokens)
    FROM billing_balance AS balance FULL JOIN counted USING (level, subject, period)
    WHERE (coalesce(spent_usd, 0), coalesce(spent_tokens, 0), coalesce(held_usd, 0), coalesce(held_tokens, 0))
        <> (coalesce(usd, 0), coalesce(tokens, 0), 0, 0)
"""


async def collect(stage: Stage, port: int, visitors: list[Visitor], evidence: Evidence) -> None:
    """Fill in the second half of the evidence."""
    around = Surroundings(port, dict(stage.keys), evidence, asyncio.Event())
    for tenant in sorted({visitor.tenant for visitor in visitors}):
        # Texts are sealed in the database, so the platform itself has to say what they are.
        reader = LateReader(0, tenant, around, Random(0))
        said = await reader.everything()
        evidence.user_messages.update((tenant, text) for text, role in said.values() if role == "user")
        for row in await asyncio.to_thread(stage.rows, REPLIES, tenant=tenant):
            reply_id, conversation, question, key, status, *rest = row
            (asked, _), (text, _) = said.get(question, ("?", "")), said.get(reply_id, ("?", ""))
            evidence.stored.append(Stored(tenant, reply_id, conversation, asked, key, status, text, *rest))
    evidence.left += await asyncio.to_thread(_left, stage)
    for tenant in stage.keys:
        evidence.left += await asyncio.to_thread(_books, stage, tenant)
    since_the_epoch = time.time() - time.monotonic()
    for row in await asyncio.to_thread(stage.simulator.requests):
        questions = [part["content"] for part in row["body"].get("messages", []) if part["role"] == "user"]
        if questions:
            at = row["at"] + since_the_epoch
            evidence.calls[row["number"]] = Call(row["number"], questions[-1], row["fault"], at)
    evidence.views += await asyncio.to_thread(_logs, stage, evidence.stored)
    await _read_late(around, evidence)


def _left(stage: Stage) -> list[str]:
    """The work that is left though nothing runs."""
    work = stage.rows(
        "SELECT id::text, state, owner, attempt, lease_expires_at::text FROM conversations_work"
    )
    return [
        f"work is left: {state} {reply} owner={owner!r} attempt={attempt} lease={lease}"
        for reply, state, owner, attempt, lease in work
    ]


def _books(stage: Stage, tenant: str) -> list[str]:
    """What is wrong with a tenant's books: a hold of an attempt that settled its reply; or, once those of attempts that
    died are given back, any hold at all, or a balance that is not the sum of its rows of the ledger."""
    own = stage.rows(OWN_HOLDS, tenant=tenant)
    stage.sweep()
    holds = stage.rows("SELECT reply::text, attempt, usd::text FROM billing_hold", tenant=tenant)
    sums = stage.rows(SUMS, tenant=tenant)
    return [
        *(f"{tenant}: the attempt that settled reply {reply} still holds" for (reply,) in own),
        *(
            f"{tenant}: a hold is left: reply {reply}, attempt {attempt}, ${usd}"
            for reply, attempt, usd in holds
        ),
        *(
            f"{tenant}: balance {level} of {period} is {balance}, the ledger says {ledger}"
            for level, period, balance, ledger in sums
        ),
    ]


def _logs(stage: Stage, replies: list[Stored]) -> list[View]:
    """The event logs themselves, as views. One that was flushed after the end is no loss."""
    logs = {key.decode().rpartition("{")[2].partition("}")[0]: key for key in stage.valkey.keys("*:log")}
    found = []
    for reply in replies:
        if reply.reply_id in logs:
            view = View("the event log", reply.reply_id)
            view.sit()
            for cursor, entry in stage.valkey.xrange(logs[reply.reply_id]):
                view.take(entry[b"k"].decode(), cursor.decode(), orjson.loads(entry[b"d"]))
            found.append(view)
    return found


async def _read_late(around: Surroundings, evidence: Evidence) -> None:
    """Every reply once more: what REST has of it, and its events from the beginning."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def read(reply: Stored) -> None:
        async with turns:
            reader = LateReader(0, reply.tenant, around, Random(0), reply)
            try:
                async with asyncio.timeout(READ_WITHIN):
                    await reader.visit()
            except TimeoutError:
                evidence.unsettled.append(f"a late reader of {reply.reply_id} waits in vain")

    await asyncio.gather(*(read(reply) for reply in evidence.stored))


class LateReader(Visitor):
    """Comes when all is over: reads one reply from the beginning, or everything that its tenant has."""

    kind = "late"

    def __init__(
        self, number: int, tenant: str, around: Surroundings, random: Random, reply: Stored | None = None
    ) -> None:
        super().__init__(number, tenant, around, random)
        self.reply = reply
        self.conversation = reply.conversation if reply else ""

    async def chat(self) -> None:
        assert self.reply is not None
        path = f"/conversations/{self.conversation}/replies/{self.reply.reply_id}"
        status, shown = await self.ask("GET", path)
        if status == 200:
            self.reply.shown = shown
        await self.follow(self.view(self.reply.reply_id, "a late reader"))

    async def everything(self) -> dict[str, tuple[str, str]]:
        """All messages of the tenant by id, with their roles."""
        async with aiohttp.ClientSession() as self.session:
            found: dict[str, tuple[str, str]] = {}
            for conversation in await self._all("/conversations"):
                for message in await self._all(f"/conversations/{conversation['id']}/messages"):
                    found[message["id"]] = message["content"], message["role"]
            return found

    async def _all(self, path: str) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        more = "?page_size=200"
        while True:
            status, page = await self.ask("GET", path + more)
            assert status == 200, (path, status, page)
            found += page["results"]
            if not page["next"]:
                return found
            more = "?" + page["next"].partition("?")[2]

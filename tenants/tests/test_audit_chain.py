"""The chain itself: gapless, append-only, and telling of everything that is done to it behind its back."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, ProgrammingError, connection, transaction
from psycopg.types.json import Jsonb

from chatplatform import embedded, jobs, tenancy
from chatplatform.postgres import migrations, roles
from chatplatform.testing.commands import result_of
from tenants import audit
from tenants.audit import anchors, keys, verification
from tenants.audit.recording import HASHED, hashed, signed_head
from tenants.models import AuditEntry, AuditHead, Tenant
from tenants.selectors import TenantState
from tenants.vocabulary import AuditAction

ACTION = AuditAction.TENANT_CHANGED
Admin = psycopg.Connection[Any]


@pytest.fixture
def admin(committed: None, servers: embedded.Servers) -> Iterator[Admin]:
    """A superuser, whom nothing stops."""
    with psycopg.connect(servers.where.database_admin_url, autocommit=True) as connected:
        yield connected


@pytest.fixture
def anchored(tmp_path: Path, settings: Any) -> Path:
    """A place of this test's own for anchors."""
    settings.AUDIT_ANCHOR_PATH = tmp_path
    return tmp_path / anchors.FILE


@pytest.fixture
def chain(admin: Admin, anchored: Path) -> Iterator[UUID]:
    """A chain of ten entries, committed; gone afterwards. No chain is anchored where other tests had their place."""
    one = uuid4()
    admin.execute("UPDATE tenants_audithead SET anchored = 0")
    for number in range(10):
        audit.record(ACTION, number, tenant=one, note=f"entry {number}", nested={"b": [1, None], "a": True})
    yield one
    admin.execute("UPDATE tenants_audithead SET anchored = 0")
    for table in ("auditentry", "audithead"):
        tamper(admin, f"DELETE FROM tenants_{table} WHERE chain = %(chain)s", chain=one)


def found(chain: UUID, file: Path | None = None) -> list[tuple[int, str]]:
    """What verification finds: which row, and what is wrong with it."""
    held = anchors.read(file).get(chain, {}) if file and file.exists() else {}
    return [(one.sequence, str(one.wrong)) for one in verification.verify(chain, held).findings]


def tamper(admin: Admin, statement: str, **values: Any) -> None:
    """What somebody may do who owns the table: switch the trigger off, and on again."""
    with admin.transaction():
        admin.execute("ALTER TABLE tenants_auditentry DISABLE TRIGGER append_only")
        admin.execute(statement, values)
        admin.execute("ALTER TABLE tenants_auditentry ENABLE ALWAYS TRIGGER append_only")


# --- As it should be -------------------------------------------------------------------------------------------
def test_a_chain_that_nobody_touched_is_in_order(chain: UUID) -> None:
    assert found(chain) == []
    with tenancy.in_platform():
        rows = AuditEntry.objects.filter(chain=chain).order_by("sequence")
        assert [row.sequence for row in rows] == list(range(1, 11))
        assert [row.previous for row in rows] == ["", *[row.hash for row in rows][:-1]]


def test_a_rollback_leaves_no_gap(chain: UUID) -> None:
    with pytest.raises(ZeroDivisionError), tenancy.in_platform(), transaction.atomic():
        audit.record(ACTION, "lost", tenant=chain)
        raise ZeroDivisionError
    with tenancy.in_platform(), transaction.atomic():
        audit.record(ACTION, "first", tenant=chain)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            audit.record(ACTION, "lost", tenant=chain)
            raise ZeroDivisionError
        audit.record(ACTION, "second", tenant=chain)
    with tenancy.in_platform():
        tail = AuditEntry.objects.filter(chain=chain, sequence__gt=10).order_by("sequence")
        assert list(tail.values_list("sequence", "object_id")) == [(11, "first"), (12, "second")]
    assert found(chain) == []


def test_a_failure_to_record_undoes_the_transaction(chain: UUID, admin: Admin) -> None:
    tamper(admin, "UPDATE tenants_audithead SET sequence = 5 WHERE chain = %(chain)s", chain=chain)
    with tenancy.in_platform():
        before = Tenant.objects.get(slug="acme").status_detail
        with pytest.raises(IntegrityError), transaction.atomic():
            Tenant.objects.filter(slug="acme").update(status_detail="must not last")
            audit.record(ACTION, "x", tenant=chain)
        assert Tenant.objects.get(slug="acme").status_detail == before
        assert connection.get_autocommit()


def test_parallel_appends_to_several_chains_in_any_order_keep_them_all(chain: UUID) -> None:
    other, gate = uuid4(), threading.Barrier(10)

    def append(number: int) -> None:
        if number < 10:
            gate.wait(10)
        try:
            with tenancy.in_platform(), transaction.atomic():
                for one in (chain, other) if number % 2 else (other, chain):
                    audit.record(ACTION, number, tenant=one)
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(append, range(50)))
    for one, length in ((chain, 60), (other, 50)):
        assert found(one) == []
        with tenancy.in_platform():
            assert AuditEntry.objects.filter(chain=one).count() == length


def test_a_lock_on_the_chain_is_held_for_the_commit_alone(chain: UUID) -> None:
    """Another transaction that recorded first and goes on for long does not hold anybody up."""
    with tenancy.in_platform(), transaction.atomic():
        audit.record(ACTION, "early", tenant=chain)
        with ThreadPoolExecutor(1) as threads:

            def meanwhile() -> None:
                try:
                    audit.record(ACTION, "meanwhile", tenant=chain)
                finally:
                    connection.close()

            threads.submit(meanwhile).result(5)
    with tenancy.in_platform():
        tail = (
            AuditEntry.objects.filter(chain=chain).order_by("-sequence").values_list("object_id", flat=True)
        )
        assert list(tail[:2]) == ["early", "meanwhile"]


# --- Who may do what -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE public.tenants_auditentry SET action = ''",
        "DELETE FROM public.tenants_auditentry",
        "TRUNCATE public.tenants_auditentry",
        "ALTER TABLE public.tenants_auditentry DISABLE TRIGGER ALL",
        "DELETE FROM public.tenants_audithead",
    ],
)
def test_the_applications_roles_cannot_change_the_log(acme: TenantState, statement: str) -> None:
    for here in (tenancy.in_platform(), tenancy.staff_view(acme.ref), tenancy.in_tenant(acme.ref)):
        with here, pytest.raises(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


def test_a_tenant_can_neither_read_nor_write_the_log(in_acme: TenantState) -> None:
    for statement in (
        "SELECT * FROM public.tenants_auditentry",
        "INSERT INTO public.tenants_auditentry (id) VALUES (gen_random_uuid())",
        "SELECT * FROM public.tenants_audithead",
    ):
        with pytest.raises(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenants_auditentry SET action = ''",
        "DELETE FROM tenants_auditentry",
        "TRUNCATE tenants_auditentry",
        "SET session_replication_role = replica; DELETE FROM tenants_auditentry",
    ],
)
def test_the_trigger_stops_even_a_superuser(
    committed: None, servers: embedded.Servers, statement: str
) -> None:
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="only be added to"),
        psycopg.connect(servers.where.database_admin_url) as admin,
    ):
        admin.execute(statement)


def test_a_migration_does_not_give_rights_back(committed: None) -> None:
    roles.prepare_database()
    migrations.migrate_shared()
    with (
        tenancy.in_platform(),
        pytest.raises(DatabaseError),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("DELETE FROM tenants_auditentry")


# --- Behind its back -------------------------------------------------------------------------------------------
EDITS = {
    "data": """data = '{"note": "nothing"}'""",
    "action": "action = 'tenant.erased'",
    "actor_kind": "actor_kind = 'nobody'",
    "actor_id": "actor_id = 'somebody else'",
    "object_kind": "object_kind = 'key'",
    "object_id": "object_id = 'another'",
    "request": "request = 'another'",
    "address": "address = 'elsewhere'",
    "at": "at = at + interval '1 microsecond'",
    "id": "id = gen_random_uuid()",
    "hash": "hash = repeat('0', 64)",
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_an_edit_is_found(chain: UUID, admin: Admin, change: str) -> None:
    tamper(
        admin, f"UPDATE tenants_auditentry SET {change} WHERE chain = %(chain)s AND sequence = 4", chain=chain
    )
    assert found(chain) == [(4, "edited")]


def test_every_column_is_hashed() -> None:
    columns = {field.name for field in AuditEntry._meta.concrete_fields}
    assert columns - {"hash"} == set(HASHED)
    assert {*EDITS, "chain", "sequence", "key", "previous"} == columns


def test_a_deletion_is_found(chain: UUID, admin: Admin) -> None:
    tamper(
        admin, "DELETE FROM tenants_auditentry WHERE chain = %(chain)s AND sequence IN (3, 4)", chain=chain
    )
    assert found(chain) == [(3, "missing")]


def test_a_deletion_with_new_numbers_for_the_rest_is_found(chain: UUID, admin: Admin) -> None:
    tamper(admin, "DELETE FROM tenants_auditentry WHERE chain = %(chain)s AND sequence = 3", chain=chain)
    tamper(
        admin,
        "UPDATE tenants_auditentry SET sequence = sequence - 1 WHERE chain = %(chain)s AND sequence > 3",
        chain=chain,
    )
    assert found(chain)[0] == (3, "moved")
    assert (10, "truncated") in found(chain)


def test_a_reordering_is_found(chain: UUID, admin: Admin) -> None:
    swap = "UPDATE tenants_auditentry SET sequence = %(to)s WHERE chain = %(chain)s AND sequence = %(of)s"
    for of, to in ((5, 99), (6, 5), (99, 6)):
        tamper(admin, swap, chain=chain, of=of, to=to)
    assert found(chain) == [(5, "moved"), (6, "moved")]


def test_a_truncation_is_found_by_the_head(chain: UUID, admin: Admin) -> None:
    tamper(admin, "DELETE FROM tenants_auditentry WHERE chain = %(chain)s AND sequence > 8", chain=chain)
    assert found(chain) == [(9, "truncated")]


def test_a_truncation_with_a_head_to_match_is_found_by_its_signature(chain: UUID, admin: Admin) -> None:
    tamper(admin, "DELETE FROM tenants_auditentry WHERE chain = %(chain)s AND sequence > 8", chain=chain)
    tamper(
        admin,
        "UPDATE tenants_audithead SET sequence = 8, hash = (SELECT hash FROM tenants_auditentry "
        "WHERE chain = %(chain)s AND sequence = 8) WHERE chain = %(chain)s",
        chain=chain,
    )
    assert found(chain) == [(8, "head_forged")]


def test_the_return_of_an_older_state_is_found_by_the_anchors(
    chain: UUID, admin: Admin, anchored: Path
) -> None:
    """Rows and head as they were two entries ago, signature and all: nothing in the database shows it."""
    with tenancy.in_platform():
        older = AuditHead.objects.get(chain=chain)
    for number in (11, 12):
        audit.record(ACTION, number, tenant=chain)
    anchors.anchor()
    tamper(admin, "DELETE FROM tenants_auditentry WHERE chain = %(chain)s AND sequence > 10", chain=chain)
    tamper(
        admin,
        "UPDATE tenants_audithead SET sequence = 10, hash = %(hash)s, signature = %(signature)s, anchored = 0 "
        "WHERE chain = %(chain)s",
        chain=chain,
        hash=older.hash,
        signature=older.signature,
    )
    assert found(chain) == []
    assert found(chain, anchored) == [(11, "truncated")]


def test_the_loss_of_a_whole_chain_is_found_by_the_anchors(chain: UUID, admin: Admin, anchored: Path) -> None:
    anchors.anchor()
    for table in ("auditentry", "audithead"):
        tamper(admin, f"DELETE FROM tenants_{table} WHERE chain = %(chain)s", chain=chain)
    assert found(chain, anchored) == [(1, "truncated")]


def rewrite(admin: Admin, chain: UUID, key: keys.Key, named: str) -> None:
    """Every row anew, with entry 4 changed, each with the hash that this key gives, and the head to match."""
    with tenancy.in_platform():
        rows = list(AuditEntry.objects.filter(chain=chain).order_by("sequence"))
    before = ""
    for row in rows:
        row.previous, row.key = before, named
        row.data = {"note": "nothing"} if row.sequence == 4 else row.data
        before = row.hash = hashed((getattr(row, name) for name in HASHED), key.entries)
        tamper(
            admin,
            "UPDATE tenants_auditentry SET previous = %(previous)s, key = %(key)s, data = %(data)s, hash = %(hash)s "
            "WHERE id = %(id)s",
            previous=row.previous,
            key=row.key,
            data=Jsonb(row.data),
            hash=row.hash,
            id=row.id,
        )
    tamper(
        admin,
        "UPDATE tenants_audithead SET hash = %(hash)s, key = %(key)s, signature = %(signature)s "
        "WHERE chain = %(chain)s",
        hash=before,
        key=named,
        signature=signed_head(chain, 10, before, key),
        chain=chain,
    )


def test_a_full_rewrite_with_another_key_is_found(chain: UUID, admin: Admin) -> None:
    wrong = keys._made("another secret")
    rewrite(admin, chain, wrong, wrong.id)
    assert found(chain)[:10] == [(number, "unknown_key") for number in range(1, 11)]
    rewrite(admin, chain, wrong, keys.current().id)
    assert [one[0] for one in found(chain)] == [*range(1, 11), 10]


def test_a_full_rewrite_with_the_right_key_is_found_by_the_anchors(
    chain: UUID, admin: Admin, anchored: Path
) -> None:
    anchors.anchor()
    rewrite(admin, chain, keys.current(), keys.current().id)
    assert found(chain) == [(10, "anchors_missing")]  # nothing else shows
    assert found(chain, anchored) == [(10, "rewritten")]


def test_a_row_past_the_end_is_found(chain: UUID, admin: Admin) -> None:
    tamper(
        admin,
        "INSERT INTO tenants_auditentry SELECT (jsonb_populate_record(one, "
        "jsonb_build_object('id', gen_random_uuid(), 'sequence', 11))).* "
        "FROM tenants_auditentry AS one WHERE chain = %(chain)s AND sequence = 10",
        chain=chain,
    )
    assert found(chain) == [(11, "added")]


def test_lost_anchors_are_told_of(chain: UUID, anchored: Path) -> None:
    anchors.anchor()
    anchored.unlink()
    assert found(chain) == [(10, "anchors_missing")]


def test_a_forged_head_is_not_vouched_for(chain: UUID, admin: Admin, anchored: Path) -> None:
    tamper(admin, "UPDATE tenants_audithead SET sequence = 8 WHERE chain = %(chain)s", chain=chain)
    anchors.anchor()
    assert not anchored.exists() or chain not in anchors.read(anchored)


# --- Keys and anchors ------------------------------------------------------------------------------------------
def test_the_secret_can_be_changed(chain: UUID, settings: Any) -> None:
    settings.AUDIT_OLD_SECRETS, settings.AUDIT_SECRET = settings.AUDIT_SECRET, "a new secret"
    audit.record(ACTION, "new", tenant=chain)
    assert found(chain) == []
    settings.AUDIT_OLD_SECRETS = ""
    assert found(chain) == [(number, "unknown_key") for number in range(1, 11)]


def test_anchors_are_signed_lines_and_others_are_passed_over(chain: UUID, anchored: Path) -> None:
    assert anchors.anchor() >= 1
    assert anchors.anchor() == 0
    [line] = [json.loads(one) for one in anchored.read_text().splitlines() if str(chain) in one]
    forged = {**line, "sequence": 12}
    with anchored.open("a") as file:
        file.write(f"{json.dumps(forged)}\nnot JSON, as {chain} may be in a log\n")
    assert list(anchors.read(anchored, chain)[chain]) == [10]
    assert anchored.stat().st_mode & 0o777 == 0o600


def test_a_number_of_rows_is_anchored_at_once(
    chain: UUID, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(jobs, "enqueue", lambda task, *_, **__: asked.append(task))
    settings.AUDIT_ANCHOR_ROWS = 4
    for number in range(11, 17):
        audit.record(ACTION, number, tenant=chain)
    assert asked == ["tenants.anchor_audit_log"] * 2  # at 12 and 16


# --- The command -----------------------------------------------------------------------------------------------
def test_the_command_says_what_it_looked_at(chain: UUID, admin: Admin) -> None:
    # A worker of other tests' anchors in a place of its own, and then there is nothing left to anchor here.
    admin.execute("UPDATE tenants_audithead SET anchored = 0")
    anchors.anchor()
    audit.record(ACTION, "new", tenant=chain)
    assert result_of("verify_audit_log", str(chain)) == {
        "chains": 1,
        "rows": 11,
        "unanchored": 1,
        "findings": [],
    }
    assert result_of("verify_audit_log", "--platform")["findings"] == []


def test_the_command_names_the_row_and_fails(chain: UUID, admin: Admin) -> None:
    with tenancy.in_platform():
        row = AuditEntry.objects.get(chain=chain, sequence=4)
    tamper(admin, "UPDATE tenants_auditentry SET action = 'x' WHERE id = %(id)s", id=row.id)
    said = io.StringIO()
    with pytest.raises(CommandError, match="1 finding") as failure:
        call_command("verify_audit_log", str(chain), stdout=said)
    assert failure.value.returncode == 1
    assert said.getvalue().startswith(f"{chain}, row 4 ({row.id}): edited.")


def test_the_command_takes_anchors_from_a_log(chain: UUID, tmp_path: Path, anchored: Path) -> None:
    anchors.anchor()
    kept = anchored.rename(tmp_path / "log")
    with pytest.raises(CommandError):
        result_of("verify_audit_log", str(chain))
    assert result_of("verify_audit_log", str(chain), "--anchors", str(kept))["findings"] == []
    with pytest.raises(CommandError) as failure:
        result_of("verify_audit_log", "--anchors", str(anchored))
    assert failure.value.returncode == 2


def test_one_chain_or_the_platforms_but_not_both(committed: None) -> None:
    with pytest.raises(CommandError) as failure:
        result_of("verify_audit_log", "acme", "--platform")
    assert failure.value.returncode == 2

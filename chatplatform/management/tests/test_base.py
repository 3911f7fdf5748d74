"""What all ops commands share, without any database."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import OperationalError

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem, invalid
from chatplatform.management.base import Error, PlatformCommand, Result, one_line, table
from tenants.models import Tenant


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Counting(PlatformCommand):
    """Goes through three things."""

    def run(self, **options: Any) -> Result:
        return {"view": tenancy.current_scope().view, "seen": list(self.progress(["a", "b", "c"], str.upper))}


def run_on(stderr: io.StringIO) -> str:
    stdout = io.StringIO()
    command = Counting(stdout=stdout, stderr=stderr)
    command.handle(json=True)
    return stdout.getvalue()


def test_it_works_on_the_platform_and_prints_one_line_of_json() -> None:
    assert run_on(io.StringIO()) == '{"view": "platform", "seen": ["a", "b", "c"]}\n'


def test_progress_is_for_terminals() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    run_on(terminal)
    run_on(pipe)
    assert "2/3 C" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K"), "the bar is wiped at the end"
    assert pipe.getvalue() == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Problem(Code.SLUG_TAKEN, "Taken."), "Taken."),
        (Problem(Code.TENANT_SUSPENDED), "The tenant is suspended"),
        (invalid("tier", "One of these."), "tier: One of these."),
        (ValidationError({"temperature": ["Too hot."]}), "temperature: Too hot."),
        (Tenant.DoesNotExist("matching query"), "There is no such tenant."),
        (OperationalError("connection refused\nIs it running?"), "The database refused: connection refused"),
    ],
)
def test_errors_are_one_clear_line(error: Exception, line: str) -> None:
    assert one_line(error) == line


def test_what_is_foreseen_ends_the_command_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Counting, **options: Any) -> Result:
        raise invalid("slug", "Not nice.")

    monkeypatch.setattr(Counting, "run", refuse)
    with pytest.raises(Error, match=r"^slug: Not nice\.$") as refusal:
        run_on(io.StringIO())
    assert refusal.value.returncode == 1


def test_a_table_lines_up() -> None:
    rows = [{"slug": "a", "domains": ["x.example", "y.example"]}, {"slug": "long", "domains": []}]
    assert table(["slug", "domains"], rows).splitlines() == [
        "SLUG  DOMAINS",
        "a     x.example, y.example",
        "long  -",
    ]

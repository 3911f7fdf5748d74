"""Typed readers of the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from chatplatform.settings import databases, env


@pytest.fixture(autouse=True)
def undeclared() -> Iterator[None]:
    """What these tests declare is no setting of the platform."""
    kept = dict(env.declared)
    yield
    env.declared.clear()
    env.declared.update(kept)


def flag(value: str | None, monkeypatch: pytest.MonkeyPatch, default: bool = False) -> bool:
    monkeypatch.delenv("X_FLAG", raising=False)
    if value is not None:
        monkeypatch.setenv("X_FLAG", value)
    return env.flag("X_FLAG", default, meaning="a test's")


def test_what_is_not_set_has_its_default(tmp_path: Path) -> None:
    assert env.text("X_TEXT", "d", meaning="m") == "d"
    assert env.number("X_NUMBER", 3, meaning="m") == 3
    assert env.decimal("X_DECIMAL", 0.5, meaning="m") == 0.5
    assert env.path("X_PATH", tmp_path, meaning="m", shown="x") == tmp_path


def test_what_is_set_is_read_as_its_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "X_TEXT": " t ",
        "X_NUMBER": "7",
        "X_DECIMAL": "1e3",
        "X_PATH": f"{tmp_path}/a/..",
    }.items():
        monkeypatch.setenv(name, value)
    assert env.text("X_TEXT", meaning="m") == " t "
    assert env.number("X_NUMBER", 3, meaning="m") == 7
    assert env.decimal("X_DECIMAL", 3, meaning="m") == 1000.0
    assert env.path("X_PATH", Path("/"), meaning="m", shown="x") == tmp_path.resolve()


def test_flags_have_many_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(flag(value, monkeypatch) for value in ("1", "true", "YES", " on "))
    assert not any(flag(value, monkeypatch, True) for value in ("0", "False", "no", "OFF"))


def test_an_empty_value_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_NUMBER", "")
    assert env.number("X_NUMBER", 3, meaning="m") == 3
    assert flag("", monkeypatch, True) is True


@pytest.mark.parametrize(
    ("read", "value"), [(env.number, "seven"), (env.number, "1.5"), (env.decimal, "x"), (env.flag, "maybe")]
)
def test_a_wrong_value_names_the_variable(monkeypatch: pytest.MonkeyPatch, read: Any, value: str) -> None:
    monkeypatch.setenv("X_WRONG", value)
    with pytest.raises(ImproperlyConfigured, match="X_WRONG"):
        read("X_WRONG", 0, meaning="m")


def test_a_secret_comes_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("X_KEY_FILE", str(tmp_path / "secret"))
    assert env.text("X_KEY", secret=True, meaning="m") == "s3cret"
    assert env.text("X_KEY", meaning="m") == "", "only secrets have files"
    monkeypatch.setenv("X_KEY", "direct")
    assert env.text("X_KEY", secret=True, meaning="m") == "direct"


def test_a_secrets_file_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_KEY_FILE", "/nowhere")
    with pytest.raises(ImproperlyConfigured, match="X_KEY_FILE"):
        env.text("X_KEY", secret=True, meaning="m")


def test_every_variable_that_is_asked_for_is_declared() -> None:
    env.text("X_NEW", "secret default", secret=True, shown="generated", meaning="what it is")
    assert env.declared["X_NEW"] == env.Variable("X_NEW", "text", "generated", "what it is", True)


def test_the_contracts_variables_exist() -> None:
    wanted = """
        PORT HOST DATA_DIR PUBLIC_SCHEME PLATFORM_DOMAIN DATABASE_URL DATABASE_ADMIN_URL REDIS_URL CELERY_BROKER_URL
        CACHE_URL CHANNEL_LAYER_URL EVENT_LOG_URL RATE_LIMIT_URL OPENAI_API_KEY OPENAI_BASE_URL ANTHROPIC_API_KEY
        ANTHROPIC_BASE_URL LLAMA_API_ENDPOINT LLAMA_API_KEY SENTRY_DSN DJANGO_SECRET_KEY
        DJANGO_DEBUG ASGI_SERVER
    """.split()
    assert set(wanted) <= set(env.declared)


@pytest.mark.parametrize(
    "name",
    ["DATABASE_URL", "DATABASE_ADMIN_URL", "REDIS_URL", "OPENAI_API_KEY", "LLAMA_API_KEY", "SENTRY_DSN"],
)
def test_secrets_are_marked_as_such(name: str) -> None:
    assert env.declared[name].secret


def test_a_database_url_is_anything_that_libpq_takes() -> None:
    found = databases.from_url(
        "postgresql://me:p%40ss@db.example:5433/shop?sslmode=require&options=-c%20jit%3Doff",
        fence="application",
    )
    assert {name: found[name] for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")} == {
        "NAME": "shop", "USER": "me", "PASSWORD": "p@ss", "HOST": "db.example", "PORT": "5433",
    }  # fmt: skip
    assert found["OPTIONS"]["sslmode"] == "require"
    assert found["OPTIONS"]["options"] == "-c jit=off -c TimeZone=UTC"
    assert found["OPTIONS"]["fence"] == "application"


def test_a_database_may_be_behind_a_socket() -> None:
    found = databases.from_url("postgresql:///shop?host=/run/pg&user=me", fence="owner")
    assert (found["HOST"], found["NAME"], found["USER"]) == ("/run/pg", "shop", "me")

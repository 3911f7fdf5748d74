"""An OpenID provider that others have written: django-oauth-toolkit, as a process of its own.

What signing in is tested against beside our own stand-in, which would share a misreading of the protocol with our
client. It is Django with settings that are not ours, hence the process (`python -m chatplatform.testing.oidc_toolkit`),
with its people and clients in memory. It insists on PKCE, on addresses that are registered and on the client's secret.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

CLIENT, PASSWORD = "console", "far-from-here-7"
PEOPLE = {"ada": "ada@example.com", "bob": "bob@example.com"}
SIGN_IN_PAGE = """<!DOCTYPE html><link rel="icon" href="data:,">
<form method="post">{% csrf_token %}{{ form }}<button>Sign in</button></form>"""


@dataclass(frozen=True)
class Toolkit:
    """The provider that runs. Its one client is CLIENT; PEOPLE sign in with PASSWORD."""

    issuer: str
    client_secret: str

    def allow(self, *addresses: str) -> None:
        """Register the addresses that browsers may be sent back to."""
        form = urlencode({"addresses": " ".join(addresses)}).encode()
        with urlopen(f"{self.issuer}/addresses", form, timeout=10):
            pass


@contextmanager
def running_toolkit() -> Iterator[Toolkit]:
    """The provider on a port of its own, answering."""
    secret = secrets.token_urlsafe(24)
    environment = {**os.environ, "CLIENT_SECRET": secret}
    command = (sys.executable, "-m", "chatplatform.testing.oidc_toolkit")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, "the provider did not start: see above"
            yield Toolkit(address, secret)
        finally:
            process.terminate()


# --- Inside of the process -----------------------------------------------------------------------------------------
def configure() -> None:
    """Settings of a small site that is nothing but a provider."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from django.conf import settings

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    apps = ("auth", "contenttypes", "sessions", "oauth2_provider")
    middleware = ("sessions.middleware.SessionMiddleware", "auth.middleware.AuthenticationMiddleware")
    pages = {"registration/login.html": SIGN_IN_PAGE}
    loaders = [
        ("django.template.loaders.locmem.Loader", pages),
        "django.template.loaders.app_directories.Loader",
    ]
    settings.configure(
        SECRET_KEY=secrets.token_urlsafe(),
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF="chatplatform.testing.oidc_toolkit_urls",
        LOGIN_URL="/sign-in",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        MIGRATION_MODULES=dict.fromkeys(apps),
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # a slow one proves nothing here
        INSTALLED_APPS=[name if "_" in name else f"django.contrib.{name}" for name in apps],
        MIDDLEWARE=[f"django.contrib.{name}" for name in middleware],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "loaders": loaders,
                    "context_processors": ["django.template.context_processors.request"],
                },
            }
        ],
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": key.decode(),
            "OAUTH2_VALIDATOR_CLASS": "chatplatform.testing.oidc_toolkit_urls.Claims",
            "SCOPES": {"openid": "Who you are", "email": "Your address"},
            "PKCE_REQUIRED": True,
            "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
            "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
        },
        USE_TZ=True,
    )


def serve() -> None:
    """Make the people and the client, say the address, and answer until the process is ended."""
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    import django

    configure()
    django.setup()

    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from oauth2_provider.models import Application

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    call_command("migrate", run_syncdb=True, verbosity=0)
    for name, email in PEOPLE.items():
        User.objects.create_user(name, email, PASSWORD)
    Application.objects.create(
        name="The console of a tenant",
        client_id=CLIENT,
        client_secret=os.environ["CLIENT_SECRET"],
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        algorithm=Application.RS256_ALGORITHM,
        skip_authorization=True,  # its page that asks loads a style sheet from elsewhere
    )
    server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    serve()

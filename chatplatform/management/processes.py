"""The application's processes: how each is started, and how to tell that it is ready."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import sys
from pathlib import Path

from django.conf import settings

from chatplatform.embedded.program import Program

ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
DEFAULT_PORTS = {"http": 80, "https": 443}
PROBE_TIMEOUT = 2.0
WEB_DRAIN, WORKER_GRACE = "1.5", "0.5"  # s


def web() -> Program:
    """The ASGI server that `ASGI_SERVER` names."""
    command = web_command(settings.ASGI_SERVER, settings.HOST, settings.PORT)
    # All of `make run` has to stop within 10 s.
    drain = os.environ.get("DRAIN_SECONDS", WEB_DRAIN)
    return _python("web", *command, grace=float(drain) + 0.5, DRAIN_SECONDS=drain)


def web_command(server: str, host: str, port: int) -> tuple[str, ...]:
    """The module that serves the application, and its arguments."""
    if server == "uvicorn":
        return "chatplatform.uvicorn_server", "--host", host, "--port", str(port)
    quiet = ("-v", "0", "-b", host, "-p", str(port))
    return "chatplatform.daphne_server", *quiet, "chatplatform.asgi:application"


def worker() -> Program:
    """The Celery worker. Who stops `make run` does not wait for replies: the next start goes on with them."""
    from chatplatform.pool import ENDS_WITHIN

    # Gossip and mingle find other workers; there are none, and looking for them takes a second.
    alone = ("--without-gossip", "--without-mingle")
    grace = float(WORKER_GRACE) + ENDS_WITHIN + 0.2
    return _celery("worker", "-n", worker_name(), *alone, grace=grace, WORKER_GRACE_SECONDS=WORKER_GRACE)


def beat() -> Program:
    """The Celery scheduler. Without a pid file: the supervisor knows whether it runs."""
    return _celery("beat", "--schedule", str(settings.DATA_DIR / "beat-schedule"), "--pidfile=", grace=1.0)


def worker_name() -> str:
    """The worker's name in Celery: this run's own, also on a broker shared with others."""
    return f"run-{os.getpid()}@{socket.gethostname()}"


def port_problem(host: str, port: int) -> str | None:
    """Why the web server cannot listen there, or None."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"port {port} on {host} is already in use; choose another one: PORT={port + 1} make run"
        return f"cannot listen on {host}, port {port}: {error.strerror or error}"
    except OverflowError:
        return f"PORT={port} is not a port: 1 to 65535"
    return None


def web_is_ready() -> bool:
    """Whether /readyz answers 200. Blocks up to 2 s."""
    host = ANY_ADDRESS.get(settings.HOST, settings.HOST)
    connection = http.client.HTTPConnection(host, settings.PORT, timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def worker_is_ready() -> bool:
    """Whether the worker answers a ping over the broker. Blocks up to 1 s."""
    from chatplatform.celery import app

    away: tuple[type[BaseException], ...] = (OSError, *app.connection_for_read().connection_errors)
    try:
        return bool(app.control.ping(destination=[worker_name()], timeout=1.0, limit=1))
    except away:
        return False


def urls() -> dict[str, str]:
    """Where a person finds the running platform: `chat`, `admin` and `api`."""
    scheme, domain, port = settings.PUBLIC_SCHEME, settings.PLATFORM_DOMAIN, settings.PUBLIC_PORT
    suffix = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    api_host = "127.0.0.1" if domain == "localhost" else domain
    return {
        "chat": f"{scheme}://demo.{domain}{suffix}/",
        "admin": f"{scheme}://{domain}{suffix}/admin/",
        "api": f"{scheme}://{api_host}{suffix}/api/v1",
    }


def _celery(command: str, *arguments: str, grace: float, **more: str) -> Program:
    application = ("--quiet", "-A", "chatplatform")
    return _python(command, "celery", *application, command, *arguments, grace=grace, **more)


def _python(name: str, module: str, *arguments: str, grace: float, **more: str) -> Program:
    """`more` goes into the environment."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "chatplatform.settings"),
        "DATA_DIR": str(settings.DATA_DIR),
        # In the foreground a person reads the logs, and wants them at once.
        "LOG_FORMAT": os.environ.get("LOG_FORMAT", "console"),
        "PYTHONUNBUFFERED": "1",
        **more,
    }
    command = (sys.executable, "-m", module, *arguments)
    return Program(name, command, environment=environment, directory=Path(settings.BASE_DIR), grace=grace)

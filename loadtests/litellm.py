"""The LiteLLM proxy on the same machine, before the same simulator: one worker, without its database."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from loadtests.stand import Stand

START_WITHIN = 90.0  # s
# A comma in a name would be a list of models to the proxy.
NAME, MODEL = "bench", "sim-tokens=50,ttft=0,tps=0"


@contextmanager
def proxy(command: str, stand: Stand) -> Iterator[dict[str, Any]]:
    """Where it listens, the key and the model to use. `command` is the path of its program. Raises RuntimeError."""
    from chatplatform.testing.live import free_port

    port, url = free_port(), stand.live.simulator.openai_url
    file = stand.data_dir / "litellm.json"  # JSON is YAML
    backend = {"model": f"openai/{MODEL}", "api_base": url, "api_key": "simulated"}
    settings = {"num_retries": 0, "telemetry": False, "set_verbose": False}
    models = [{"model_name": NAME, "litellm_params": backend}]
    file.write_bytes(orjson.dumps({"model_list": models, "litellm_settings": settings}))
    options = ("--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {"LITELLM_LOG": "ERROR"}
    key = f"sk-{secrets.token_hex(16)}"  # it does not start without one
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}
    with (stand.data_dir / "litellm.log").open("wb") as log:
        process = subprocess.Popen([command, *options], env=environment, stdout=log, stderr=log)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health/liveliness", stand.data_dir / "litellm.log")
        to = {"host": "127.0.0.1", "port": port}
        yield {"to": to, "key": key, "model": NAME, "version": _version(command)}
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"LiteLLM does not answer: {log.read_text(errors='replace')[-1000:]}")


def _version(command: str) -> str:
    ask = "import importlib.metadata; print(importlib.metadata.version('litellm'))"
    python = Path(command).parent / "python"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False).stdout.strip()

from __future__ import annotations

import base64
import json
import math
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from chatplatform.testing.simulator import Settings, Simulator, running_simulator, simulator_process
from chatplatform.testing.simulator.settings import Fault, for_request, parse_fault

USER = [{"role": "user", "content": "Hi"}]
SOURCES = (
    "Use these sources.\n\n[1] Returns: you have 30 days to return goods.\n\n[2] Delivery takes two days."
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with running_simulator(Settings(tokens=10)) as simulator:
        yield simulator


@pytest.fixture
def simulator(shared: Simulator) -> Simulator:
    shared.control(reset=True)
    return shared


def post(simulator: Simulator, path: str, body: Any, **headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(simulator.anthropic_url + path, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: bytes = response.read()
    return answer


def chat(simulator: Simulator, content: str = "Hi", model: str = "sim-fast", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    answer = json.loads(
        post(simulator, "/v1/chat/completions", {"model": model, "messages": messages} | more)
    )
    assert isinstance(answer, dict)
    return answer


def content_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def status_of(call: Any, *args: Any, **kwargs: Any) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        call(*args, **kwargs)
    with caught.value as error:
        return int(error.code)


def test_directives_stand_in_the_model_name_and_in_the_message() -> None:
    settings = for_request(
        Settings(tokens=10, tps=5),
        "sim-fast,tokens=20,fault=drop@3",
        'Hi [[sim: ttft=0.5 text="a b" tokens=7]]',
    )
    assert settings == Settings(ttft=0.5, tps=5, tokens=7, text="a b", fault="drop@3")
    assert for_request(Settings(), "gpt-4o-mini,tokens=20", "Hi") == Settings()
    assert parse_fault("drop@3") == (Fault.DROP, 3)
    assert parse_fault("") == (None, None)


@pytest.mark.parametrize(
    "model", ["sim-colour=red", "sim-tokens=many", "sim-fault=meteor", "sim-fault=drop@x"]
)
def test_a_directive_that_does_not_exist_is_refused(simulator: Simulator, model: str) -> None:
    assert status_of(chat, simulator, model=model) == 400


def test_the_same_request_gets_the_same_answer(simulator: Simulator) -> None:
    first, second = chat(simulator, "Hello there"), chat(simulator, "Hello there")
    assert content_of(first) == content_of(second)
    assert content_of(first).startswith("You asked: Hello there")
    assert first["usage"]["completion_tokens"] == 10


def test_it_quotes_a_source_of_the_system_prompt(simulator: Simulator) -> None:
    messages = [{"role": "system", "content": SOURCES}, {"role": "user", "content": "May I return goods?"}]
    answer = json.loads(post(simulator, "/v1/chat/completions", {"model": "sim-fast", "messages": messages}))
    assert "30 days" in content_of(answer)
    assert "two days" not in content_of(answer)


def test_settings_change_at_run_time_and_reset(simulator: Simulator) -> None:
    simulator.control(text="Fixed.", cached=3)
    assert content_of(chat(simulator)) == "Fixed."
    assert content_of(chat(simulator, '[[sim: text="Mine."]]')) == "Mine."
    simulator.control(reset=True)
    assert content_of(chat(simulator)).startswith("You asked")
    assert status_of(simulator.control, colour="red") == 400


def test_queued_faults_hit_the_next_requests(simulator: Simulator) -> None:
    simulator.control(faults=["rate_limit", {"fault": "error", "times": 2}])
    assert [status_of(chat, simulator) for _ in range(3)] == [429, 500, 500]
    assert chat(simulator)["choices"]
    assert status_of(simulator.control, faults=["meteor"]) == 400
    assert simulator.stats()["queued_faults"] == []


def test_it_counts_and_remembers(simulator: Simulator) -> None:
    chat(simulator, "one two three")
    stats = simulator.stats()
    assert (stats["requests"], stats["completed"], stats["active"]) == (1, 1, 0)
    assert (stats["input_tokens"], stats["output_tokens"]) == (3, 10)
    assert simulator.requests()[0]["body"]["messages"][0]["content"] == "one two three"


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", {"model": "sim", "messages": "text"}])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"])
def test_nonsense_is_a_bad_request(simulator: Simulator, path: str, body: Any) -> None:
    assert status_of(post, simulator, path, body) == 400


def test_a_stream_has_the_events_of_anthropic_in_order(simulator: Simulator) -> None:
    body = {
        "model": "sim-tokens=2",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    lines = post(simulator, "/v1/messages", body).decode().splitlines()
    names = [line[7:] for line in lines if line.startswith("event: ")]
    assert names == [
        "message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip


@pytest.mark.parametrize("wanted", [True, False])
def test_usage_is_streamed_only_when_asked_for(simulator: Simulator, wanted: bool) -> None:
    body: dict[str, Any] = {"model": "sim-tokens=2", "stream": True, "messages": USER}
    body["stream_options"] = {"include_usage": wanted}
    text = post(simulator, "/v1/chat/completions", body).decode()
    assert text.endswith("data: [DONE]\n\n")
    assert ('"usage"' in text) is wanted


def test_embeddings_are_unit_vectors_the_same_in_both_formats(simulator: Simulator) -> None:
    body = {
        "model": "sim-embedding",
        "input": ["return goods", "return all goods", "dragon"],
        "dimensions": 64,
    }
    floats = json.loads(post(simulator, "/v1/embeddings", body))["data"]
    packed = json.loads(post(simulator, "/v1/embeddings", body | {"encoding_format": "base64"}))["data"]
    vectors = [row["embedding"] for row in floats]
    for vector, row in zip(vectors, packed, strict=True):
        assert array("f", base64.b64decode(row["embedding"])).tolist() == pytest.approx(vector)
        assert math.hypot(*vector) == pytest.approx(1.0)
    near, far = (sum(map(float.__mul__, vectors[0], other)) for other in vectors[1:])
    assert near > 0.7 > far


def test_it_keeps_its_pace_without_drift(simulator: Simulator) -> None:
    begin = time.monotonic()
    body = {
        "model": "sim-tps=50,tokens=25,ttft=0.1",
        "stream": True,
        "messages": [{"role": "user", "content": ""}],
    }
    post(simulator, "/v1/chat/completions", body)
    assert 0.1 + 24 / 50 <= time.monotonic() - begin < 0.1 + 24 / 50 + 1


def test_it_runs_as_a_process_and_a_busy_port_is_an_error() -> None:
    with simulator_process("--tokens", "4", "--tokens-per-second", "0", "--ttft", "0") as simulator:
        assert chat(simulator)["usage"]["completion_tokens"] == 4
        command = [sys.executable, "-m", "chatplatform.testing.simulator", "--port", str(simulator.port)]
        busy = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert busy.returncode == 1
    assert f"cannot listen on 127.0.0.1:{simulator.port}" in busy.stderr
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", simulator.port)) != 0, "the process has ended"


def test_an_unknown_fault_on_the_command_line_is_an_error() -> None:
    command = [sys.executable, "-m", "chatplatform.testing.simulator", "--port", "0", "--fault", "meteor"]
    assert subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 2

"""The measures, each on its own: what is asked of the clients, and what is made of their answer."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from loadtests import profile
from loadtests.figures import Pace, holds, ratio
from loadtests.litellm import proxy
from loadtests.machine import PLATFORM, Sampler, cpu_per_thousand, memory_kb
from loadtests.stand import TENANTS, Stand, file_limit

TTFT, TPS = 0.2, 30.0
RAMP = 25.0  # streams begun a second, so that admission is not what is measured
NO_DELAY = "tokens=50,ttft=0,tps=0"
ADMISSIONS = 50.0  # messages a second
ADMISSION_WARM_UP = 8.0  # s
ADMISSION_CONVERSATIONS = 4  # of each client, and so many turns in each, on the whole
SHORT = 50  # tokens of a reply without delay
CONVERSATIONS = 10  # of each client, which it uses in turn: histories stay short
TURNS_EACH = 5  # of an end user, where each conversation is another one's
MEMORY_WARM_UP = 6.0  # s
PROTECTION_WARM_UP = 4  # rounds: until each connection has prepared what it runs for each tenant
SPARE_FILES = 500
Figures = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    steps: tuple[int, ...] = (100, 200, 400, 600, 800, 1000, 1200)  # live streams
    together: float = 14.0  # s that all of them should be live
    first_token_seconds: float = 30.0
    at_memory: int = 400
    turn_clients: int = 64
    turn_seconds: float = 10.0
    admission_seconds: float = 20.0
    request_clients: int = 32
    request_seconds: float = 4.0
    rounds: int = 6
    protection_seconds: float = 2.0
    protection_rounds: int = 16  # many and short: what else the machine does falls on all ways alike
    protection_end_users: int = 40  # of each client, one after the other
    sockets: tuple[int, ...] = (2000, 10_000)
    hold: float = 35.0  # s; Daphne and uvicorn ping every 20
    at_profile: int = 200
    litellm: str = ""
    py_spy: str = ""


QUICK = Plan(
    steps=(50, 100),
    together=11.0,
    first_token_seconds=6.0,
    at_memory=100,
    turn_seconds=4.0,
    admission_seconds=6.0,
    request_seconds=3.0,
    rounds=2,
    protection_rounds=4,
    protection_end_users=16,
    sockets=(500,),
    at_profile=60,
    hold=10.0,
)


def expected(tokens: int) -> str:
    """What the simulator answers to a question that is `{name}`."""
    from chatplatform.testing.simulator.answers import Prompt, compose
    from chatplatform.testing.simulator.settings import Settings

    prompt = Prompt("sim", "", (), "NAMENAME", True, True, None, ())
    return compose(prompt, Settings(tokens=tokens), 0).text.replace("NAMENAME", "{name}")


def model_of(pace: Pace) -> str:
    return f"sim-tokens={pace.tokens},ttft={pace.ttft:g},tps={pace.tps:g}"


def warm_up(stand: Stand, plan: Plan) -> None:
    """So that everything is loaded and connected. Few streams: the memory of many is measured later."""
    _load(stand, Pace(0.0, TPS, 60), 20)


# --- Live streams --------------------------------------------------------------------------------------------
def streams(stand: Stand, plan: Plan) -> Figures:
    """The largest number of streams that holds. One that does not is tried twice; then the middle between the two."""
    loads: list[Figures] = []
    held, failed = 0, 0
    for count in plan.steps:
        if any(_step(stand, plan, count, loads) for _ in range(2)):
            held = count
        else:
            failed = count
            break
    middle = (held + failed) // 100 * 50
    if failed and failed - held > 100 and _step(stand, plan, middle, loads):
        held = middle
    direct = _load(stand, _long(plan, held or plan.steps[0]), held or plan.steps[0], direct=True)
    best = next((load for load in reversed(loads) if load["streams"] == held), None)
    return {
        "held": held,
        "loads": loads,
        "direct": direct,
        "of_direct": ratio(best["tokens_per_second"], direct["tokens_per_second"]) if best else None,
    }


def _step(stand: Stand, plan: Plan, count: int, loads: list[Figures]) -> bool:
    load = _load(stand, _long(plan, count), count)
    load["why_not"] = holds(load)
    loads.append(load)
    say(
        f"  {count} streams: {load['why_not'] or 'held'}, late p95 {load['window_late_ms']['p95'] or 0:.0f} ms"
    )
    return not load["why_not"]


def _long(plan: Plan, count: int) -> Pace:
    """Replies that are all live at once for `together` seconds, though they begin one after the other."""
    return Pace(TTFT, TPS, int(TPS * (count / RAMP + plan.together)))


def _load(stand: Stand, pace: Pace, count: int, *, direct: bool = False, **more: Any) -> Figures:
    """Streams side by side; `more` goes to the clients."""
    job = {
        "kind": "streams",
        "count": count,
        "rate": RAMP,
        "pace": asdict(pace),
        "expected": expected(pace.tokens),
    }
    model = model_of(pace)
    where = {"to": stand.simulator, "seats": []} if direct else {"seats": stand.seats(count, model)}
    with Sampler() as sampler:
        found = stand.clients(**{**job, "model": model, **where, **more})
    cpu = sampler.used(*found["window"])
    return {**found, "tokens_each": pace.tokens, "cpu_ms": cpu_per_thousand(cpu, found["window_tokens"])}


# --- First tokens --------------------------------------------------------------------------------------------
def first_token(stand: Stand, plan: Plan) -> Figures:
    """At 100 live streams: new ones arrive evenly, as many as end. Each is a new conversation's first message."""
    live, pace = 100, Pace(TTFT, TPS, 150)
    rate = live / pace.seconds
    count = live + int(rate * plan.first_token_seconds)
    direct = _load(stand, pace, count, direct=True, rate=rate, skip=live)
    through = _load(stand, pace, count, rate=rate, skip=live)
    added = {
        name: through["first_token_ms"][name] - direct["first_token_ms"][name] for name in ("p50", "p95")
    }
    return {"added_ms": added, "a_second": rate, "through": through, "direct": direct}


# --- Memory --------------------------------------------------------------------------------------------------
def memory(stand: Stand, plan: Plan) -> Figures:
    """What live streams add, over the platform that is at work: turns open the connections of its pools before."""
    _closed_loop(stand, plan, plan.turn_clients, MEMORY_WARM_UP, "rest")
    time.sleep(3)
    idle, live = memory_kb(), dict[str, int]()

    def on_event(event: Figures) -> None:
        if event["event"] == "all_live":
            seen = []
            for _ in range(3):
                time.sleep(2)
                seen.append(memory_kb())
            live.update({name: round(statistics.median(one[name] for one in seen)) for name in seen[0]})

    load = _load(stand, _long(plan, plan.at_memory), plan.at_memory, on_event=on_event)
    time.sleep(3)
    each = {name: (live[name] - idle.get(name, 0)) / plan.at_memory for name in live}
    return {
        "streams": plan.at_memory,
        "each_kb": sum(each.values()) if live else None,
        "each_kb_by_part": each,
        "idle_kb": idle,
        "live_kb": live,
        "afterwards_kb": memory_kb(),
        "faulty": load["faulty"],
        "faults": load["faults"],
    }


# --- Turns and requests ----------------------------------------------------------------------------------------
def turns(stand: Stand, plan: Plan) -> Figures:
    """Whole turns, over WebSocket and over REST, and how many of them PostgreSQL has with what they used."""
    found: Figures = {
        "direct": _closed_loop(stand, plan, plan.turn_clients, plan.turn_seconds, "direct", stream=True)
    }
    for way in ("ws", "rest"):
        model = f"sim-turns-{way},{NO_DELAY}"
        before = stand.settled(model)
        figures = _closed_loop(stand, plan, plan.turn_clients, plan.turn_seconds, way, model)
        found[way] = {**figures, "settled": stand.settled(model) - before}
        found[way]["of_direct"] = ratio(found[way]["per_second"], found["direct"]["per_second"])
    return found


def admission(stand: Stand, plan: Plan) -> Figures:
    """Accepting messages at a steady rate, with limits and budgets on all levels of a tenant: what the web process
    itself measures of each, from when a thread takes it up to its being stored."""
    limited = stand.more_tenants(len(TENANTS))  # other measures are taken without
    stand.limit(limited)
    model, clients = f"sim-admission,{NO_DELAY}", plan.turn_clients
    seats = stand.seats(ADMISSION_CONVERSATIONS * clients, model, limited, end_users=True)

    def load(seconds: float) -> Figures:
        return _closed_loop(stand, plan, clients, seconds, "ws", model, per_second=ADMISSIONS, seats=seats)

    load(ADMISSION_WARM_UP)  # each end user gets its key, and connections meet the new tenants
    before, unchecked = stand.admissions(), stand.unchecked()
    found = load(plan.admission_seconds)
    after = stand.admissions()
    counts = {bucket: after[bucket] - before.get(bucket, 0.0) for bucket in after}
    return {
        **found,
        "unchecked": stand.unchecked() - unchecked,
        "admitted": counts[math.inf],
        "p50_ms": quantile(counts, 0.5),
        "p95_ms": quantile(counts, 0.95),
    }


def quantile(counts: Mapping[float, float], wanted: float) -> float:
    """The upper end, in ms, of the bucket of a histogram (seconds and how many were not over that) in which it lies."""
    total = counts[math.inf]
    if not total:
        return math.nan
    return 1000 * min(bucket for bucket, count in counts.items() if count >= wanted * total)


def requests(stand: Stand, plan: Plan) -> Figures:
    """Requests without streaming, by turns: to the simulator, through the platform, through LiteLLM."""
    model, clients = f"sim-{NO_DELAY}", plan.request_clients
    with proxy(plan.litellm, stand) if plan.litellm else nullcontext() as litellm:
        groups: Figures = {
            "direct": {"way": "completions", "other": stand.simulator, "seats": []},
            "rest": {"way": "rest", "seats": stand.seats(clients * CONVERSATIONS, model)},
        }
        if litellm:
            other = {"other": litellm["to"], "key": litellm["key"], "model": litellm["model"]}
            groups["litellm"] = {"way": "completions", "seats": [], **other}
        found = _by_turns(stand, plan, groups, plan.request_seconds, plan.rounds, 1, model=model)
    for name in groups:
        found[name]["of_direct"] = ratio(found[name]["per_second"], found["direct"]["per_second"])
    if litellm:
        found["of_litellm"] = ratio(found["rest"]["per_second"], found["litellm"]["per_second"])
        found["litellm"]["version"] = litellm["version"]
    return found


def _closed_loop(
    stand: Stand,
    plan: Plan,
    clients: int,
    seconds: float,
    way: str,
    model: str = f"sim-{NO_DELAY}",
    *,
    stream: bool = False,
    per_second: float = 0.0,
    seats: Sequence[tuple[str, str]] = (),
) -> Figures:
    job: Figures = {
        "kind": "closed_loop",
        "clients": clients,
        "seconds": seconds,
        "warm_up": 2.0,
        "model": model,
        "per_second": per_second,
        "expected": expected(SHORT),
        "seats": [],
        "way": "completions",
        "stream": stream,
    }
    if way == "direct":
        job["to"] = stand.simulator
    else:
        job |= {"way": way, "seats": seats or stand.seats(clients * CONVERSATIONS, model)}
    with Sampler() as sampler:
        found = stand.clients(**job)
    cpu = sampler.used(*found["window"])
    say(f"  {way}: {found['per_second']:.0f} a second, {found['failed']} failed")
    return {**found, "cpu_ms_each": cpu_per_thousand(cpu, 1000 * found["per_second"] * seconds)}


# --- What keeps tenants and texts apart ---------------------------------------------------------------------------
def protection(stand: Stand, plan: Plan) -> Figures:
    """Turns of one tenant, whose role all connections keep, and of eight; with texts in the clear and sealed. Each
    conversation is another end user's, whose key is made with the first message, and has five turns.
    """
    made = stand.more_tenants(2 * len(TENANTS))  # alike but for that
    clear, sealed = made[: len(TENANTS)], made[len(TENANTS) :]
    stand.leave_in_the_clear(clear)
    ways = {"neither": clear[:1], "encryption": sealed[:1], "switching": clear, "both": sealed}
    model, count = f"sim-{NO_DELAY}", plan.request_clients * plan.protection_end_users
    groups = {
        name: {"way": "ws", "seats": stand.seats(count, model, tenants, end_users=True)}
        for name, tenants in ways.items()
    }
    seconds, rounds = plan.protection_seconds, plan.protection_rounds
    found = _by_turns(stand, plan, groups, seconds, rounds, PROTECTION_WARM_UP, turns_each=TURNS_EACH)
    for name in list(ways)[1:]:
        one, neither = found[name], found["neither"]
        one["of_neither"] = ratio(one["per_second"], neither["per_second"])
        one["of_neither_by_cpu"] = ratio(neither["platform_cpu_ms"], one["platform_cpu_ms"])
    return found


# --- Several ways by turns ---------------------------------------------------------------------------------------
def _by_turns(
    stand: Stand, plan: Plan, groups: Figures, seconds: float, rounds: int, warm_up: int, **job: Any
) -> Figures:
    """What each of several groups of clients did in all of its turns; `warm_up` rounds before these do not count."""
    clients = plan.request_clients
    job |= {"clients": clients, "seconds": seconds, "expected": expected(SHORT), "groups": groups}
    order, before = _in_turn(list(groups), warm_up + rounds), warm_up * len(groups)
    with Sampler() as sampler:
        parts = stand.clients(kind="by_turns", order=order, warm_up=before, **job)
    found: Figures = {name: _summed(part, clients, sampler) for name, part in parts.items()}
    for name, one in found.items():
        say(f"  {name}: {one['per_second']:.0f} a second, {one['failed']} failed")
    return found


def _in_turn(names: list[str], rounds: int) -> list[str]:
    """All of them again and again, each as often first as any other: who comes later finds fuller tables."""
    return [name for number in range(rounds) for name in _rotated(names, number)]


def _rotated(names: list[str], number: int) -> list[str]:
    begin = number // 2 % len(names)
    turned = names[begin:] + names[:begin]
    return turned if number % 2 == 0 else turned[::-1]


def _summed(part: Figures, clients: int, sampler: Sampler) -> Figures:
    windows = part.pop("windows")
    seconds, done = sum(end - begin for begin, end, _ in windows), sum(count for *_, count in windows)
    used: dict[str, float] = defaultdict(float)
    for begin, end, _ in windows:
        for name, cpu in sampler.used(begin, end).items():
            used[name] += cpu
    each = cpu_per_thousand(used, 1000 * done)
    return {
        **part,
        "clients": clients,
        "done": done,
        "per_second": ratio(done, seconds),
        "rounds": [count / (end - begin) for begin, end, count in windows],
        "cpu_ms_each": each,
        "platform_cpu_ms": sum(each[name] for name in PLATFORM if name in each),
    }


# --- Idle sockets ----------------------------------------------------------------------------------------------
def idle(stand: Stand, plan: Plan) -> Figures:
    """Open sockets on which nothing happens but pings; each a conversation of its own."""
    steps = tuple(count for count in plan.sockets if count + SPARE_FILES <= file_limit())
    if not steps:
        return {"held": 0, "steps": [], "note": f"only {file_limit()} open files are allowed here"}
    pace = Pace(0.0, 0.0, SHORT)
    before, seen = memory_kb(), list[Figures]()

    def on_event(event: Figures) -> None:
        if event["event"] == "open":
            time.sleep(plan.hold / 3)
            seen.append({"from": time.monotonic(), "memory_kb": memory_kb()})
        else:
            seen[-1]["to"] = event["at"]

    job = {"kind": "idle", "steps": steps, "hold": plan.hold, "wake": 50, "expected": expected(SHORT)}
    with Sampler() as sampler:
        found = stand.clients(on_event, seats=stand.seats(steps[-1], model_of(pace)), **job)
    for step, noted in zip(found["steps"], seen, strict=True):
        used = sampler.used(noted["from"], noted["to"])
        seconds = noted["to"] - noted["from"]
        step["cpu_percent"] = {name: 100 * used[name] / seconds for name in PLATFORM if name in used}
        after = noted["memory_kb"]
        step["each_kb"] = {name: (after[name] - before.get(name, 0)) / step["sockets"] for name in after}
        step["held"] = step["alive"] == step["sockets"] and step["answered"] == step["asked"]
    held = max((step["sockets"] for step in found["steps"] if step["held"]), default=0)
    note = "" if steps == plan.sockets else f"only {file_limit()} open files are allowed here"
    return {"held": held, "note": note, **found}


# --- A profile -------------------------------------------------------------------------------------------------
def profiles(stand: Stand, plan: Plan) -> Figures:
    """Where the time goes while replies stream. Watching costs some itself."""
    if not plan.py_spy:
        return {"note": "needs --py-spy"}
    running: dict[str, Any] = {}

    def on_event(event: Figures) -> None:
        if event["event"] == "begin":
            time.sleep(plan.at_profile / RAMP + 2)
            running.update(profile.start(plan.py_spy, stand.data_dir))

    load = _load(stand, _long(plan, plan.at_profile), plan.at_profile, on_event=on_event)
    found = profile.finish(running, stand.data_dir)
    return {"streams": plan.at_profile, "parts": found, "cpu_ms": load["cpu_ms"], "faults": load["faults"]}


# In this order: memory first, while the platform has not yet carried much.
MEASURES: dict[str, Callable[[Stand, Plan], Figures]] = {
    "memory": memory,
    "first_token": first_token,
    "streams": streams,
    "turns": turns,
    "admission": admission,
    "requests": requests,
    "protection": protection,
    "idle": idle,
    "profile": profiles,
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

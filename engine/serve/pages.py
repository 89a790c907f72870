"""Everything that a server answers but predictions: health, metadata, the repository, statistics, metrics, its API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson

import engine
from engine.serve.feedback import read_labels
from engine.serve.http import Answer, Asked, Reply, Site, fault, inference_target
from engine.serve.model import Rejected
from engine.serve.openapi import openapi
from engine.serve.stats import exposition, summed

METRICS_TYPE = b"text/plain; version=1.0.0; charset=utf-8"
EXTENSIONS = ["binary_tensor_data", "model_repository", "statistics", "parameters"]
PREFLIGHT = (
    b"Access-Control-Allow-Methods: GET, POST\r\nAccess-Control-Allow-Headers: authorization, content-type, "
    b"engine-sticky, inference-header-content-length, x-api-key\r\n"
)
Names = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is no inference: where it came, what was asked, and the names in its path."""

    site: Site
    asked: Asked
    names: Names


Page = Callable[[Call], Reply]


def document(found: object, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status=status, body=orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY))


def live(_: Call) -> Reply:
    """``GET /v2/health/live``."""
    return document({"live": True})


def ready(call: Call) -> Reply:
    """``GET /v2/health/ready``, and of one model or version."""
    is_ready = call.site.plane.is_ready(call.names.get("model", ""), call.names.get("version", ""))
    if not is_ready and call.names:
        call.site.plane.route(call.names["model"]).choose(call.names.get("version", ""), "")
    return document(
        {**({"name": call.names["model"]} if call.names else {}), "ready": is_ready}, 200 if is_ready else 503
    )


def server(_: Call) -> Reply:
    """``GET /v2``."""
    return document({"name": "engine", "version": engine.__version__, "extensions": EXTENSIONS})


def metadata(call: Call) -> Reply:
    """``GET /v2/models/M[/versions/V]``."""
    return document(call.site.plane.metadata(call.names["model"], call.names.get("version", "")))


def index(call: Call) -> Reply:
    """``POST /v2/repository/index``."""
    try:
        wish = orjson.loads(call.asked.body) if call.asked.body.strip() else {}
    except orjson.JSONDecodeError:
        raise Rejected(400, "the body is not JSON") from None
    only_ready = isinstance(wish, dict) and wish.get("ready") is True
    return document(
        [
            {"name": one.name, "version": str(one.version or ""), "state": one.state, "reason": one.reason}
            for one in call.site.plane.index()
            if one.state == "READY" or not only_ready
        ]
    )


def feedback(call: Call) -> Reply:
    """``POST /v2/models/M/feedback``: labels for earlier predictions."""
    batcher, _ = call.site.plane.route(call.names["model"]).choose("", "feedback")
    labels = read_labels(call.asked.body, batcher.loaded.package["signature"].get("classes"))
    call.site.plane.feedback(call.names["model"], labels)
    return document({"accepted": len(labels)})


def load(call: Call) -> Reply:
    """``POST /v2/repository/models/M/load``."""
    call.site.plane.load(call.names["model"])
    return document({})


def unload(call: Call) -> Reply:
    """``POST /v2/repository/models/M/unload``."""
    call.site.plane.unload(call.names["model"])
    return document({})


def statistics(call: Call) -> Reply:
    """``GET /v2/models/M[/versions/V]/stats``, over all workers."""
    route = call.site.plane.route(call.names["model"])
    if call.names.get("version"):
        route.named(call.names["version"])
    rows = model_statistics(summed(call.site.cells.folder), call.names["model"])
    chosen = [row for row in rows if call.names.get("version", "") in ("", row["version"])]
    return document({"model_stats": chosen})


def model_statistics(found: Mapping[tuple[str, ...], Any], model: str) -> list[dict[str, Any]]:
    """Each version's counts, as V2's statistics extension has them; times in nanoseconds."""
    versions = sorted({key[2] for key in found if key[0] == "engine_onnx_seconds" and key[1] == model}, key=int)
    rows = []
    for version in versions:
        calls = found["engine_onnx_seconds", model, version]
        requests = [key for key in found if key[0] == "engine_requests" and key[1:3] == (model, version)]
        answered = int(sum(found[key][0] for key in requests))
        inferred = int(sum(found["engine_rows", *key[1:]][0] for key in requests))
        waited = float(sum(found["engine_request_seconds", *key[1:]][-1] for key in requests))
        success = {"count": answered, "ns": int(1e9 * waited)}
        compute = {"count": int(sum(calls[:-1])), "ns": int(1e9 * float(calls[-1]))}
        rows.append(
            {
                "name": model,
                "version": version,
                "inference_count": inferred,
                "execution_count": compute["count"],
                "inference_stats": {"success": success, "compute_infer": compute},
                "aliases": {key[3]: int(found[key][0]) for key in sorted(requests)},
            }
        )
    return rows


def metrics(call: Call) -> Reply:
    """``GET /metrics``."""
    return Reply(status=200, body=exposition(call.site.cells.folder), kind=METRICS_TYPE)


def api(call: Call) -> Reply:
    """``GET /openapi.json``."""
    return document(openapi(call.site.plane))


PAGES: tuple[tuple[str, str, str, Page], ...] = (
    ("GET", "/v2", "", server),
    ("GET", "/v2/health/live", "", live),
    ("GET", "/v2/health/ready", "", ready),
    ("GET", "/v2/models/{model}", "infer", metadata),
    ("GET", "/v2/models/{model}/ready", "", ready),
    ("GET", "/v2/models/{model}/stats", "infer", statistics),
    ("POST", "/v2/models/{model}/feedback", "feedback", feedback),
    ("GET", "/v2/models/{model}/versions/{version}", "infer", metadata),
    ("GET", "/v2/models/{model}/versions/{version}/ready", "", ready),
    ("GET", "/v2/models/{model}/versions/{version}/stats", "infer", statistics),
    ("POST", "/v2/repository/index", "infer", index),
    ("POST", "/v2/repository/models/{model}/load", "admin", load),
    ("POST", "/v2/repository/models/{model}/unload", "admin", unload),
    ("GET", "/metrics", "infer", metrics),
    ("GET", "/openapi.json", "infer", api),
)
"""Method, path, the scope that opens it (none: anybody), and what answers."""
SLOW = frozenset({load, unload, metrics, statistics, feedback})
"""What is done in a thread, for it reads files."""


def answer(site: Site, asked: Asked, reply: Answer) -> None:
    """Answer a request that is no inference; ``reply`` is called in the event loop, now or later.

    Raises:
        Rejected: when it is clear at once that nothing is here.
    """
    if site.origin and asked.method == "OPTIONS":
        reply(Reply(status=204, body=b"", headers=PREFLIGHT))
        return
    page, scope, names = find(asked.method, asked.path)
    if scope:
        site.gate.let_in(scope, asked.headers, asked.peer)
    if page not in SLOW:
        reply(page(Call(site, asked, names)))
        return
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(None, guarded, page, Call(site, asked, names))
    future.add_done_callback(lambda done: reply(done.result()))


def guarded(page: Page, call: Call) -> Reply:
    """A page's answer, a refusal too."""
    try:
        return page(call)
    except Rejected as error:
        return document({"error": str(error)}, error.status)
    except Exception as error:  # a fault of ours costs one answer and not the server
        found = fault(error)
        return document({"error": str(found)}, found.status)


def find(method: str, path: str) -> tuple[Page, str, Names]:
    """The page at a path, and the scope that opens it.

    Raises:
        Rejected: 404 when there is none, 405 when it answers to another method.
    """
    parts = [unquote(part) for part in path.rstrip("/").split("/")]
    others = set()
    if method != "POST" and inference_target(path.encode()) is not None:
        raise Rejected(405, f"{path[:80]} takes POST", kind="method")
    for known, pattern, scope, page in PAGES:
        names = matched(pattern.split("/"), parts)
        if names is not None and method in (known, "HEAD" if known == "GET" else known):
            return page, scope, names
        if names is not None:
            others.add(known)
    if others:
        raise Rejected(405, f"{path[:80]} takes {' or '.join(sorted(others))}", kind="method")
    raise Rejected(404, f"nothing is at {path[:80]}", hint="GET /openapi.json lists what is", kind="not-found")


def matched(pattern: list[str], parts: list[str]) -> Names | None:
    """The names in a path that a pattern gives; nothing when it does not fit."""
    if len(pattern) != len(parts):
        return None
    names = {}
    for want, have in zip(pattern, parts, strict=True):
        if want.startswith("{"):
            if not have:
                return None
            names[want[1:-1]] = have
        elif want != have:
            return None
    return names

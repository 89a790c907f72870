"""The application: who may come in, which path leads where, and how a server is started."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio.to_thread
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from engine.errors import EngineError
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.hooks import VALIDATE
from engine.lake.rest import imports, log, objects, refs, uploads
from engine.lake.rest.calls import Call, Handler, Rejected, document, nothing, page, refusal
from engine.lake.rest.connection import Connection
from engine.lake.rest.state import State, basic

API = "/api/v1"
LARGEST_JSON = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
ANY = frozenset({"0.0.0.0", "[::]"})  # noqa: S104  (names of hosts in headers)
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?", re.ASCII)
OPEN = (f"{API}/healthcheck", f"{API}/setup_lakefs", f"{API}/auth/login", "/_health")
REPOSITORY = "/repositories/{repository}"
BRANCH = REPOSITORY + "/branches/{branch}"
REF = REPOSITORY + "/refs/{ref}"
Take = Callable[[Request, Call], Awaitable[Response]]


# -- what is not about data ---------------------------------------------------------------------------


def config(_: Call) -> Response:
    """``GET /config``."""
    return document({"version_config": version(), "storage_config": storage(), "storage_config_list": []})


def version() -> dict[str, Any]:
    """Which lakeFS this does as: clients look at it."""
    return {"version": "1.0.0-engine", "upgrade_recommended": False}


def storage() -> dict[str, Any]:
    """What a client must know of the storage."""
    return {
        "blockstore_type": "local",
        "blockstore_namespace_example": "local://example-bucket/",
        "blockstore_namespace_ValidityRegex": "^(local|s3|gs|mem|file|https?)://",
        "blockstore_id": "",
        "blockstore_description": "",
        "default_namespace_prefix": "local://",
        "pre_sign_support": True,
        "pre_sign_support_ui": False,
        "pre_sign_multipart_upload": False,
        "import_support": True,
        "import_validity_regex": "^(file|local)://",
    }


def current_user(call: Call) -> Response:
    """``GET /user``."""
    return document({"user": {"id": call.user, "creation_date": 0}})


def setup_state(_: Call) -> Response:
    """``GET /setup_lakefs``."""
    return document({"state": "initialized", "comm_prefs_missing": False})


def login(call: Call) -> Response:
    """``POST /auth/login``: a token in the place of a key."""
    id = call.text("access_key_id")
    if not call.state.keys.accepts(id, call.text("secret_access_key")):
        raise Rejected(401, "the access key is not known here")
    token, expires = call.state.login(id)
    return document({"token": token, "token_expiration": expires})


def list_runs(call: Call) -> Response:
    """``GET .../actions/runs``."""
    call.lake.get_repository(call.repository)
    branch, commit, after = (call.query.get(key, "") for key in ("branch", "commit", "after"))
    hooks = call.state.hooks
    found = hooks.runs(call.repository, branch, commit, after=after, most=call.amount + 1) if hooks else []
    return page(call, found, lambda run: dict(run.document()), lambda run: run.id)


def get_run(call: Call) -> Response:
    """``GET .../actions/runs/ID``."""
    return document(run_of(call).document())


def list_run_hooks(call: Call) -> Response:
    """``GET .../actions/runs/ID/hooks``."""
    found = [hook for hook in run_of(call).hooks if hook.id > call.query.get("after", "")]
    return page(call, found, lambda hook: dict(hook.document()), lambda hook: str(hook.id))


def hook_output(call: Call) -> Response:
    """``GET .../actions/runs/ID/hooks/HOOK/output``."""
    for hook in run_of(call).hooks:
        if hook.id == call.path["hook"]:
            return Response(hook.output, media_type="application/octet-stream")
    raise Rejected(404, "there is no hook with that id in the run")


def run_of(call: Call) -> Any:
    """The run of hooks in the path."""
    call.lake.get_repository(call.repository)
    if call.state.hooks is None:
        raise Rejected(404, "this server runs no hooks")
    return call.state.hooks.run(call.repository, call.path["run"])


def validate_data(call: Call) -> Response:
    """``POST /engine/hooks/validate``: what `engine lake hook` has lakeFS ask. It changes nothing and needs no key."""
    handler = call.state.hooks.handlers.get(VALIDATE) if call.state.hooks else None
    if handler is None:
        raise Rejected(501, "this server validates no data")
    status, text = handler(call.body, dict(call.query))
    return PlainTextResponse(text, status)


HANDLERS: tuple[tuple[str, str, Handler], ...] = (
    ("GET", API + "/config", config),
    ("GET", API + "/config/storage", lambda _: document(storage())),
    ("GET", API + "/config/version", lambda _: document(version())),
    ("GET", API + "/healthcheck", nothing),
    ("GET", "/_health", nothing),
    ("GET", API + "/setup_lakefs", setup_state),
    ("GET", API + "/user", current_user),
    ("POST", API + "/auth/login", login),
    ("POST", API + "/statistics", nothing),
    ("GET", API + "/repositories", refs.list_repositories),
    ("POST", API + "/repositories", refs.create_repository),
    ("GET", API + REPOSITORY, refs.get_repository),
    ("DELETE", API + REPOSITORY, refs.delete_repository),
    ("GET", API + REPOSITORY + "/metadata", refs.get_metadata),
    ("GET", API + REPOSITORY + "/branches", refs.list_branches),
    ("POST", API + REPOSITORY + "/branches", refs.create_branch),
    ("GET", API + BRANCH, refs.get_branch),
    ("PUT", API + BRANCH, refs.reset_branch),
    ("DELETE", API + BRANCH, refs.delete_branch),
    ("PUT", API + BRANCH + "/hard_reset", refs.hard_reset),
    ("POST", API + BRANCH + "/commits", refs.commit),
    ("GET", API + BRANCH + "/diff", refs.diff_branch),
    ("POST", API + BRANCH + "/revert", refs.revert),
    ("POST", API + BRANCH + "/cherry-pick", refs.cherry_pick),
    ("DELETE", API + BRANCH + "/objects", objects.delete_object),
    ("PUT", API + BRANCH + "/objects", objects.stage_object),
    ("POST", API + BRANCH + "/objects/delete", objects.delete_objects),
    ("POST", API + BRANCH + "/objects/copy", objects.copy_object),
    ("PUT", API + BRANCH + "/objects/stat/user_metadata", objects.update_metadata),
    ("GET", API + BRANCH + "/staging/backing", objects.get_physical_address),
    ("PUT", API + BRANCH + "/staging/backing", objects.link_physical_address),
    ("POST", API + BRANCH + "/import", imports.start_import),
    ("GET", API + BRANCH + "/import", imports.import_status),
    ("DELETE", API + BRANCH + "/import", imports.cancel_import),
    ("GET", API + REPOSITORY + "/tags", refs.list_tags),
    ("POST", API + REPOSITORY + "/tags", refs.create_tag),
    ("GET", API + REPOSITORY + "/tags/{tag}", refs.get_tag),
    ("DELETE", API + REPOSITORY + "/tags/{tag}", refs.delete_tag),
    ("GET", API + REPOSITORY + "/commits/{commit}", refs.get_commit),
    ("GET", API + REF + "/commits", log.log_commits),
    ("HEAD", API + REF + "/objects", objects.head_object),
    ("GET", API + REF + "/objects", objects.get_object),
    ("GET", API + REF + "/objects/ls", objects.list_objects),
    ("GET", API + REF + "/objects/stat", objects.stat_object),
    ("GET", API + REF + "/objects/underlyingProperties", objects.underlying_properties),
    ("GET", API + REPOSITORY + "/refs/{left}/diff/{right}", refs.diff_refs),
    ("POST", API + REPOSITORY + "/refs/{source}/merge/{branch}", refs.merge),
    ("GET", API + REPOSITORY + "/refs/{source}/merge/{branch}", refs.find_merge_base),
    ("GET", API + REPOSITORY + "/actions/runs", list_runs),
    ("GET", API + REPOSITORY + "/actions/runs/{run}", get_run),
    ("GET", API + REPOSITORY + "/actions/runs/{run}/hooks", list_run_hooks),
    ("GET", API + REPOSITORY + "/actions/runs/{run}/hooks/{hook}/output", hook_output),
    ("GET", "/presigned/objects/{digest:str}", objects.presigned_object),
    ("POST", VALIDATE, validate_data),
)
UPLOADS: tuple[tuple[str, str, Take], ...] = (
    ("POST", API + BRANCH + "/objects", uploads.upload_object),
    ("PUT", "/presigned/uploads/{token}", uploads.presigned_upload),
)


# -- who may come in ----------------------------------------------------------------------------------


class Guard:
    """Lets in only requests that name this server as their host, and, but for a few, are signed with a key.

    Pages from elsewhere that a browser was talked into sending here bear another host's name. A number is nobody's
    name, so a server that listens on all addresses takes any.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], state: State, hosts: tuple[str, ...]) -> None:
        self.app = app
        self.state = state
        self.hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self.let_in(Request(scope))
        except EngineError as error:
            await refusal(error)(scope, receive, send)
            return
        with suppress(asyncio.CancelledError):  # the server ends: who is still not served is cut off, and that is all
            await self.app(scope, receive, send)

    def let_in(self, request: Request) -> None:
        """Note who sent a request.

        Raises:
            Rejected: when it may not come in.
        """
        if not self.is_ours(request.headers.get("host", "")):
            raise Rejected(421, "this server does not go by that name")
        request.scope["user"] = ""
        path = request.url.path
        if path.startswith(API) and path not in OPEN:
            request.scope["user"] = self.sender(request.headers.get("authorization", ""))

    def is_ours(self, header: str) -> bool:
        """Whether a ``Host`` header names this server."""
        found = HOST.fullmatch(header.lower())
        if found is None:
            return False
        return found[1] in self.hosts or (not ANY.isdisjoint(self.hosts) and is_number(found[1]))

    def sender(self, header: str) -> str:
        """The id of the key that an ``Authorization`` header shows.

        Raises:
            Rejected: when it shows none of ours.
        """
        key = basic(header)
        if key is not None and self.state.keys.accepts(*key):
            return key[0]
        kind, _, token = header.partition(" ")
        id = self.state.session(token) if kind.lower() == "bearer" else ""
        if not id:
            raise Rejected(401, "error authenticating request", {"WWW-Authenticate": 'Basic realm="lakefs"'})
        return id


def is_number(host: str) -> bool:
    """Whether a host is an address and not a name."""
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


# -- from a request to a call -------------------------------------------------------------------------


async def body_of(request: Request, state: State) -> Mapping[str, Any]:
    """The JSON object in a body, empty when there is none.

    Raises:
        Rejected: for a body that is too large, too slow, or no JSON object.
    """
    data = bytearray()
    async for block in uploads.blocks_of(request, state.patience):
        data += block
        if len(data) > LARGEST_JSON:
            raise Rejected(413, f"the body is larger than {LARGEST_JSON} bytes")
    if not data.strip():
        return {}
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Rejected(400, "the body is not JSON") from error
    if not isinstance(found, dict):
        raise Rejected(400, "the body is not a JSON object")
    return found


def call_of(request: Request, lake: EmbeddedLake, state: State, body: Mapping[str, Any]) -> Call:
    """A request's parts.

    Raises:
        Rejected: when its query is not Unicode text.
    """
    query = request.scope["query_string"]
    if b"%" in query or not query.isascii():
        try:
            unquote_to_bytes(query).decode()
        except UnicodeDecodeError as error:
            raise Rejected(400, "the query is not Unicode text; write it in UTF-8") from error
    return Call(
        lake=lake,
        state=state,
        path=request.path_params,
        query=request.query_params,
        headers=request.headers,
        user=request.scope["user"],
        body=body,
    )


async def handle(request: Request, *, handler: Handler, lake: EmbeddedLake, state: State) -> Response:
    """Answer a request in a thread."""
    body = await body_of(request, state) if request.method not in ("GET", "HEAD") else {}
    return await anyio.to_thread.run_sync(handler, call_of(request, lake, state, body))


async def take(request: Request, *, take: Take, lake: EmbeddedLake, state: State) -> Response:
    """Answer a request whose body is an object."""
    return await take(request, call_of(request, lake, state, {}))


async def refuse(_: Request, error: Exception) -> Response:
    """An error of ours."""
    assert isinstance(error, EngineError)
    return refusal(error)


async def break_down(_: Request, __: Exception) -> Response:
    """An error of nobody's: what happened is in the server's log and goes to no client."""
    return document({"message": "internal error; the server's log says more"}, 500)


async def not_covered(request: Request, _: Exception) -> Response:
    """A path that leads nowhere."""
    if request.url.path.startswith(API):
        return document({"message": f"{request.method} {request.url.path} is not supported by this server"}, 501)
    return document({"message": "this is the API of a lake, below /api/v1"}, 404)


def application(lake: EmbeddedLake, state: State, hosts: tuple[str, ...] = LOOPBACK) -> Guard:
    """The whole server as an ASGI application."""
    routes = [
        Route(path, partial(handle, handler=handler, lake=lake, state=state), methods=[method])
        for method, path, handler in sorted(HANDLERS, key=lambda row: row[0] != "HEAD")
    ]
    routes += [
        Route(path, partial(take, take=act, lake=lake, state=state), methods=[method]) for method, path, act in UPLOADS
    ]
    errors: dict[Any, Any] = {EngineError: refuse, 404: not_covered, 405: not_covered, Exception: break_down}
    app = Starlette(routes=routes, exception_handlers=errors)
    app.router.redirect_slashes = False
    return Guard(app, state, hosts)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any that is free.

    Raises:
        OSError: when the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(1024)
    return listening


def run(app: Guard, listening: socket.socket) -> None:
    """Answer requests until told to end."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listening])

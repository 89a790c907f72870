"""Hooks: what an action file says is done, over real sockets, and nothing else is."""

from __future__ import annotations

import io
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.errors import EngineError, UsageError
from engine.lake.actions import parse_action
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.events import Event
from engine.lake.hooks import Actions, HookRun
from engine.lake.protocol import Commit, HookRefused, NothingToCommit, Signed
from engine.lake.webhook import post
from engine.store.objects import ObjectStore


class Server:
    """Hears hooks, and answers by path: ``/no``, ``/bad``, ``/move``, ``/slow``, ``/drip``, ``/big``, else yes."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.heard.append((self.path, dict(self.headers), body))
                with suppress(OSError):
                    outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if path == "/slow":
            time.sleep(5)
        status = {"/no": 422, "/bad": 500, "/move": 302}.get(path, 200)
        text = {"/no": b"the \x1b[31mcolumn\x07 x\nis wrong" + b"!" * 300, "/big": b"x" * (1 << 20)}.get(path, b"fine")
        request.send_response(status)
        if path == "/move":
            request.send_header("Location", self.url("/moved"))
        if path != "/drip":
            request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        for _ in range(50 if path == "/drip" else 0):
            request.wfile.write(b".")
            time.sleep(0.1)
        request.wfile.write(text)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.heard]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


class Place:
    """A lake whose hooks keep their runs in ``runs``."""

    def __init__(self, root: Path, environment: Mapping[str, str] | None = None, **more: Any) -> None:
        self.actions = Actions(root / "actions", environment=environment or {}, **more)
        self.lake = EmbeddedLake(root / "lake", ObjectStore(root / "objects"), self.actions)
        self.lake.create_repository("repo")

    def put(self, path: str, text: str, branch: str = "main") -> None:
        self.lake.put("repo", branch, path, io.BytesIO(text.encode()))

    def commit(self, branch: str = "main", **more: Any) -> Commit:
        return self.lake.commit("repo", branch, "a message", author="someone", time=1, **more)

    def action(self, *hooks: Mapping[str, Any] | str, on: Any = None, name: str = "checks", file: str = "a") -> None:
        """Stage an action file with hooks (or only their URLs)."""
        listed = [
            {"id": f"hook{number}", "type": "webhook", "properties": {"url": hook}} if isinstance(hook, str) else hook
            for number, hook in enumerate(hooks)
        ]
        content = {"name": name, "on": on or {"pre-commit": None}, "hooks": listed}
        self.put(f"_lakefs_actions/{file}.yaml", yaml.safe_dump(content))

    def refused(self, branch: str = "main") -> HookRefused:
        with pytest.raises(HookRefused) as caught:
            self.commit(branch)
        return caught.value

    def statuses(self) -> list[tuple[str, str]]:
        return [(hook.hook, hook.document()["status"]) for hook in self.actions.runs("repo")[0].hooks]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def hook(url: str, id: str = "hook", **more: Any) -> dict[str, Any]:
    properties = {key: more.pop(key) for key in ("timeout", "query_params", "headers") if key in more}
    return {"id": id, "type": "webhook", **more, "properties": {"url": url, **properties}}


# -- what is asked ------------------------------------------------------------------------------------


def test_a_hook_hears_what_lakefs_would_tell_it(place: Place, server: Server) -> None:
    place.action(server.url("/x"), on={"pre-commit": None, "post-commit": None})
    made = place.commit(metadata={"key": "value"})
    (_, headers, before), (_, _, after) = server.heard
    assert headers["Content-Type"] == "application/json"
    assert before.pop("event_time").endswith("Z")
    expected = {
        "event_type": "pre-commit",
        "action_name": "checks",
        "hook_id": "hook0",
        "repository_id": "repo",
        "branch_id": "main",
        "source_ref": "main",
        "commit_message": "a message",
        "committer": "someone",
        "commit_metadata": {"key": "value"},
    }
    assert before == expected
    assert after["event_type"] == "post-commit"
    assert (after["commit_id"], after["source_ref"]) == (made.id, made.id)


def test_a_refused_commit_changes_nothing_and_stays_staged(place: Place, server: Server) -> None:
    place.put("x", "1")
    place.action(server.url("/no"))
    head = place.lake.resolve("repo", "main")
    place.refused()
    assert place.lake.resolve("repo", "main") == head
    assert {item.path for item in place.lake.changes("repo", "main")} == {"x", "_lakefs_actions/a.yaml"}


def test_a_refusal_names_action_hook_address_status_and_the_beginning_of_the_answer(
    place: Place, server: Server
) -> None:
    place.action(server.url("/no?token=secret"))
    error = place.refused()
    assert f'the hook "hook0" of the action "checks" ({server.url("/no")}) answered 422: the  [31mcolumn' in error.fact
    assert "secret" not in str(error)
    assert len(error.fact.partition("422: ")[2]) == 200
    assert error.fact.isprintable()
    assert error.exit_code == 1


@pytest.mark.parametrize(("path", "says"), [("/bad", "answered 500"), ("/move", "answered 302"), ("/no", "422")])
def test_a_status_that_is_no_success_refuses(place: Place, server: Server, path: str, says: str) -> None:
    place.action(server.url(path))
    assert says in place.refused().fact
    assert server.paths == [path]


def test_a_hook_that_nobody_answers_refuses(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place.action(f"http://127.0.0.1:{taken.getsockname()[1]}/")
        assert "it does not answer: Connection refused" in place.refused().fact


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_a_time_limit_is_for_the_whole_answer(place: Place, server: Server, path: str) -> None:
    place.action(hook(server.url(path), timeout="300ms"))
    started = time.monotonic()
    assert "it does not answer within 0.3 s" in place.refused().fact
    assert time.monotonic() - started < 1.5


def test_of_a_long_answer_only_the_beginning_is_kept(place: Place, server: Server) -> None:
    place.action(server.url("/big"))
    place.commit()
    assert len(place.actions.runs("repo")[0].hooks[0].output) < 70_000


def test_a_post_hook_that_fails_is_noted_and_changes_nothing(place: Place, server: Server) -> None:
    place.action(server.url("/no"), on={"post-commit": None})
    made = place.commit()
    assert place.lake.resolve("repo", "main") == made.id
    (run,) = place.actions.runs("repo")
    assert (run.event, run.commit, run.passed) == ("post-commit", made.id, False)
    assert "status 422" in run.hooks[0].output


def test_post_hooks_in_the_background_are_not_waited_for(tmp_path: Path, server: Server) -> None:
    place = Place(tmp_path, background=True)
    place.action(hook(server.url("/slow"), timeout="1s"), on={"post-commit": None})
    started = time.monotonic()
    place.commit()
    assert time.monotonic() - started < 0.8
    place.actions.close()
    assert [run.passed for run in place.actions.runs("repo")] == [False]


# -- which hooks run ----------------------------------------------------------------------------------

PATTERNS = [
    (None, "main", True),
    ([], "main", True),
    (["main"], "main", True),
    (["main"], "mainly", False),
    (["rel-*", "main"], "rel-1", True),
    (["ma?n"], "main", True),
    (["[a-f]*"], "main", False),
    (["[^a-f]*"], "main", True),
]


@pytest.mark.parametrize(("patterns", "branch", "fires"), PATTERNS)
def test_patterns_choose_branches(patterns: list[str] | None, branch: str, fires: bool) -> None:
    on = {"pre-merge": None if patterns is None else {"branches": patterns}}
    action = parse_action(yaml.safe_dump({"name": "na", "on": on, "hooks": []}).encode())
    assert action.fires("pre-merge", branch) is fires
    assert not action.fires("post-merge", branch)


def test_actions_go_by_file_name_and_a_failure_ends_its_own_action_only(place: Place, server: Server) -> None:
    place.action(server.url("/b0"), server.url("/b1"), name="second", file="b")
    place.action(server.url("/a0"), server.url("/no"), server.url("/a2"), name="first", file="a")
    assert '"hook1" of the action "first"' in place.refused().fact
    assert server.paths == ["/a0", "/no", "/b0", "/b1"]
    assert place.statuses() == [
        ("hook0", "completed"), ("hook1", "failed"), ("hook2", "failed"), ("hook0", "completed"), ("hook1", "completed"),
    ]  # fmt: skip


def test_a_hook_for_failures_runs_after_one(place: Place, server: Server) -> None:
    conditions = {"ok": "success()", "alarm": "failure()", "always": "true", "never": "false"}
    for outcome, heard in (("/no", ["/no", "/alarm", "/always"]), ("/yes", ["/yes", "/ok", "/always"])):
        server.heard.clear()
        hooks = [hook(server.url(f"/{name}"), name, **{"if": text}) for name, text in conditions.items()]
        place.action(hook(server.url(outcome), "first"), *hooks)
        with suppress(HookRefused):
            place.commit()
        assert server.paths == heard


def test_a_merge_is_asked_about_the_commit_that_is_merged_and_only_into_its_branches(
    place: Place, server: Server
) -> None:
    place.action(server.url("/no"), on={"pre-merge": {"branches": ["main"]}})
    place.commit()
    for branch in ("topic", "other"):
        place.lake.create_branch("repo", branch, "main")
    place.put("x", "1", "topic")
    made = place.commit("topic")
    with pytest.raises(HookRefused):
        place.lake.merge("repo", "topic", "main", Signed(message="m"))
    ((_, _, body),) = server.heard
    assert (body["event_type"], body["branch_id"], body["source_ref"]) == ("pre-merge", "main", made.id)
    assert place.lake.merge("repo", "topic", "other", Signed(message="m")).parents[1] == made.id
    assert len(server.heard) == 1


def test_an_action_file_takes_effect_with_the_commit_that_brings_it(place: Place, server: Server) -> None:
    place.action(server.url("/no"))
    place.refused()
    place.lake.reset("repo", "main")
    place.put("x", "1")
    assert place.commit().message == "a message"
    assert server.paths == ["/no"]


def test_other_files_in_the_folder_are_no_actions(place: Place) -> None:
    place.put("_lakefs_actions/README.md", "not: [yaml")
    place.put("_lakefs_actions/more/x.yaml", "not: [yaml")
    place.commit()
    assert place.actions.runs("repo") == []


def test_without_action_files_a_commit_costs_less_than_a_millisecond_more(tmp_path: Path) -> None:
    place = Place(tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number:05}").write_text(f"{number}")
    place.lake.put_folder("repo", "main", "", folder, commit=Signed(message="m"))
    event = Event(kind="pre-commit", repository="repo", branch="main", source="main")

    def seconds() -> float:
        started = time.perf_counter()
        place.actions.before(place.lake, event)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(50)) < 0.0005
    assert not (tmp_path / "actions").exists()


# -- values -------------------------------------------------------------------------------------------


def test_variables_that_may_be_named_are_filled_in_and_never_logged(tmp_path: Path, server: Server) -> None:
    place = Place(tmp_path, {"LAKEFSACTION_KEY": "geheim", "HOME": "/root"})
    headers = {"X-Key": "Bearer {{ ENV.LAKEFSACTION_KEY }}"}
    query = {"k": "{{ENV.LAKEFSACTION_KEY}}", "many": ["1", "a b"]}
    place.action(hook(server.url("/x?a=1"), headers=headers, query_params=query))
    place.commit()
    path, sent, _ = server.heard[0]
    assert path == "/x?a=1&k=geheim&many=1&many=a+b"
    assert sent["X-Key"] == "Bearer geheim"
    kept = "".join(file.read_text() for file in (tmp_path / "actions").rglob("*.json"))
    assert "X-Key: *******" in kept
    assert "geheim" not in kept


def test_a_variable_that_is_not_set_refuses(place: Place, server: Server) -> None:
    place.action(hook(server.url("/x"), headers={"X-Key": "{{ ENV.LAKEFSACTION_KEY }}"}))
    assert "the variable LAKEFSACTION_KEY is not set" in place.refused().fact
    assert server.heard == []


def test_a_value_cannot_break_out_of_its_header(tmp_path: Path, server: Server) -> None:
    place = Place(tmp_path, {"LAKEFSACTION_KEY": "a\r\nX-More: b"})
    place.action(hook(server.url("/x"), headers={"X-Key": "{{ ENV.LAKEFSACTION_KEY }}"}))
    error = place.refused()
    assert "its header X-Key holds a line break" in error.fact
    assert "X-More" not in str(error)
    assert server.heard == []


GOOD = "name: na\non: {pre-commit: }\nhooks: [{id: h1, type: webhook, properties: {url: 'http://127.0.0.1/'}}]\n"
NESTED = "[&b0 [x, x], " + ", ".join(f"&b{n} [*b{n - 1}, *b{n - 1}]" for n in range(1, 60)) + "]"
BOMB = f"bomb: {NESTED}\n"
WRONG = [
    ("[", "is not YAML"),
    ("a: &a [x]\nb: [*a, *a]", "is not known here"),
    ("[" * 9000, "is not YAML"),
    ("", "is missing"),
    ("- 1", "must be a mapping"),
    (GOOD + "name: again\n", "a key stands twice"),
    (GOOD.replace("name: na", "nmae: na"), 'did you mean "name"?'),
    (GOOD.replace("name: na", "name: '-'"), "name: must be letters"),
    (GOOD.replace("pre-commit", "pre-comit"), 'did you mean "pre-commit"?'),
    (GOOD.replace("pre-commit", "pre-create-tag"), "no hooks for that event"),
    (GOOD.replace("{pre-commit: }", "{}"), "names no event"),
    (GOOD.replace("pre-commit: ", "pre-commit: {branches: main}"), "on.pre-commit.branches: must be a list"),
    (GOOD.replace("pre-commit: ", "pre-commit: {branches: ['[a']}"), "must be branch names"),
    (GOOD.replace("pre-commit: ", "pre-commit: {tags: [a]}"), "is not known here"),
    (GOOD.replace("id: h1", "id: 1h"), "hooks.0.id: must be"),
    (GOOD.replace("type: webhook", "type: lua"), 'no hooks of type "lua"'),
    (GOOD.replace("type: webhook", "type: webhook, if: branch == 1"), "hooks.0.if: is not understood"),
    (GOOD.replace("url: 'http://127.0.0.1/'", ""), "hooks.0.properties.url: is missing"),
    (GOOD.replace("{url", "{timeout: 5, url"), "timeout: must be text"),
    (GOOD.replace("{url", "{timeout: 5y, url"), "is not a duration"),
    (GOOD.replace("{url", "{timeout: 0s, url"), "leaves no time"),
    (GOOD.replace("{url", "{query_params: {a: 1}, url"), "query_params.a: must be text"),
    (GOOD.replace("{url", "{query_params: {a: {b: c}}, url"), "query_params.a: must be text"),
    (GOOD.replace("{url", "{headers: {Host: b}, url"), "is not a header that can be set"),
    (GOOD.replace("{url", "{headers: {'a b': b}, url"), "is not a header that can be set"),
    (GOOD.replace("{url", "{headers: {a: '{{ ENV.HOME }}'}, url"), "may not read the variable 'HOME'"),
    (GOOD.replace("}}]", "}}, {id: h1, type: webhook, properties: {url: u}}]"), "is the id of an earlier hook"),
    (GOOD + "#" * (1 << 16), "is longer than"),
    ("a: &a {x: 1}\n" + GOOD.replace("{url", "{<<: *a, url"), "mappings cannot be merged here"),
    ("? 0x" + "f" * 9000 + "\n: 1", "has a key that is not text"),
    (BOMB + GOOD.replace("type: webhook", "type: webhook, if: *b9"), "is not known here"),
    (GOOD.replace("type: webhook", f"if: {NESTED}, type: webhook"), "hooks.0.if: is not understood"),
    (GOOD.replace("{url", "{headers: {a: '" + "{{ENV." * 9000 + "}}'}, url"), "may not read the variable"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_a_file_that_cannot_be_understood_refuses_with_its_place(place: Place, text: str, says: str) -> None:
    place.put("_lakefs_actions/a.yaml", text)
    error = place.refused()
    assert error.place == "lakefs://repo/main/_lakefs_actions/a.yaml"
    assert says in str(error)
    assert place.actions.runs("repo")[0].passed is False


def test_two_actions_of_one_name_are_refused(place: Place) -> None:
    for file in ("a", "b"):
        place.put(f"_lakefs_actions/{file}.yaml", GOOD)
    assert place.refused().place.endswith("b.yaml")


def test_a_broken_file_that_is_there_already_is_noted_by_post_hooks(tmp_path: Path) -> None:
    without = Place(tmp_path)
    without.lake.hooks = None
    without.put("_lakefs_actions/a.yaml", "[")
    without.commit()
    without.lake.create_branch("repo", "topic", "main~1")
    without.put("x", "1", "topic")
    without.commit("topic")
    without.lake.hooks = without.actions
    merged = without.lake.merge("repo", "topic", "main", Signed(message="m"))
    (run,) = without.actions.runs("repo")
    assert (run.event, run.commit, run.passed) == ("post-merge", merged.id, False)
    assert "is not YAML" in run.hooks[0].output


@pytest.mark.parametrize("word", ["on", '"on"', "'on'"])
def test_on_is_understood_with_and_without_quotes(word: str) -> None:
    assert parse_action(GOOD.replace("on:", f"{word}:").encode()).fires("pre-commit", "main")


def test_yes_and_no_are_texts_as_for_lakefs() -> None:
    found = parse_action(GOOD.replace("{url", "{query_params: {a: yes, b: [no, off]}, url").encode())
    assert found.hooks[0].query == (("a", "yes"), ("b", "no"), ("b", "off"))


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("2h", 300), ("1.5s", 1.5)])
def test_time_limits_are_gos_durations_and_five_minutes_at_most(text: str, seconds: float) -> None:
    assert parse_action(GOOD.replace("{url", f"{{timeout: {text}, url").encode()).hooks[0].seconds == seconds


# -- where a hook may lead ----------------------------------------------------------------------------

FORBIDDEN = [
    ("http://192.0.2.1/", "without https"),
    ("http://93.184.216.34/", "without https"),
    ("https://10.0.0.1/", "a private address"),
    ("https://192.168.1.1:8443/", "a private address"),
    ("https://169.254.169.254/latest/meta-data", "a private address"),
    ("https://100.64.0.1/", "a private address"),
    ("https://0.0.0.0/", "a private address"),
    ("https://224.0.0.1/", "a private address"),
    ("https://[fe80::1]/", "a private address"),
    ("https://[fd00::1]/", "a private address"),
    ("https://[fec0::1]/", "a private address"),
    ("https://[::ffff:10.0.0.1]/", "a private address"),
    ("https://[64:ff9b::10.0.0.1]/", "a private address"),
    ("https://[2002:a00:1::]/", "a private address"),
    ("https://[2002:7f00:1::]/", "by a detour"),
    ("https://[64:ff9b::7f00:1]/", "by a detour"),
    ("https://[::127.0.0.1]/", "by a detour"),
    ("https://167772161/", "a private address"),
    ("ftp://127.0.0.1/", "its url is none"),
    ("file:///etc/passwd", "its url is none"),
    ("http://", "its url is none"),
    ("http://127.0.0.1:99999/", "its url is none"),
    ("http://[::1/", "its url is none"),
    ("http://me:word@127.0.0.1/", "holds a name or password"),
    ("http://127.0.0.1/a b", "characters that no url holds"),
    ("http://127.0.0.1/\u00e4", "characters that no url holds"),
]


@pytest.mark.parametrize(("url", "says"), FORBIDDEN)
def test_where_a_hook_may_not_lead_nothing_is_sent(url: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: connected.append(address))
    with pytest.raises(EngineError) as caught:
        post(url, b"{}", [], 1.0)
    assert says in str(caught.value)
    assert connected == []


def test_who_runs_the_lake_may_allow_a_private_host(tmp_path: Path) -> None:
    place = Place(tmp_path, {"ENGINE_HOOKS_ALLOW": "hooks.example.org, 240.0.0.*"})
    place.action(hook("https://240.0.0.1/", timeout="500ms"))
    assert "it does not answer" in place.refused().fact
    place.action(hook("https://240.0.1.1/", timeout="500ms"))
    assert "a private address" in place.refused().fact


def test_what_is_allowed_is_no_business_of_the_action_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.action(hook("https://10.0.0.1/", headers={"ENGINE_HOOKS_ALLOW": "*"}))
    assert "a private address" in place.refused().fact


def test_a_name_is_asked_for_once_and_only_what_was_looked_at_is_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = socket.getaddrinfo, []

    def changing(host: Any, port: Any, *more: Any, **words: Any) -> Any:
        if host == "rebinding.example.org":
            asked.append(host)
            return real("127.0.0.1" if len(asked) == 1 else "10.0.0.1", port, *more, **words)
        return real(host, port, *more, **words)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    url = server.url("/x").replace("127.0.0.1", "rebinding.example.org")
    assert post(url, b"{}", [], 5.0).status == 200
    assert len(asked) == 1
    assert server.heard[0][1]["Host"].startswith("rebinding.example.org:")


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 443)) for host in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(EngineError, match="a private address"):
        post("https://two.example.org/", b"{}", [], 1.0)


@contextmanager
def with_tls(folder: Path) -> Iterator[int]:
    """A server whose certificate nobody has signed; its port."""
    command = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def serve() -> None:
            with suppress(OSError), context.wrap_socket(plain.accept()[0], server_side=True) as stream:
                while not stream.recv(1000).endswith(b"{}"):
                    pass
                stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield plain.getsockname()[1]


@pytest.mark.skipif(not shutil.which("openssl"), reason="a certificate is made with openssl")
def test_a_certificate_that_nobody_signed_is_refused_and_a_trusted_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with with_tls(tmp_path) as port, pytest.raises(EngineError, match="its certificate is not trusted"):
        post(f"https://localhost:{port}/", b"{}", [], 5.0)
    with with_tls(tmp_path) as port:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert post(f"https://localhost:{port}/", b"{}", [], 5.0).status == 200


# -- handlers in this process -------------------------------------------------------------------------


def test_a_path_with_a_handler_needs_no_server(tmp_path: Path) -> None:
    heard: list[tuple[dict[str, Any], dict[str, str]]] = []

    def handler(body: Mapping[str, Any], query: Mapping[str, str]) -> tuple[int, str]:
        heard.append((dict(body), dict(query)))
        return (200, "fine") if query["spec"] == "good.yaml" else (422, "line 1\nline 2")

    place = Place(tmp_path, handlers={"/engine/hooks/validate": handler})
    url = "http://127.0.0.1:1/engine/hooks/validate"
    place.action(hook(f"{url}?spec=good.yaml", query_params={"more": "1"}))
    place.commit()
    assert heard[0][0]["event_type"] == "pre-commit"
    assert heard[0][1] == {"spec": "good.yaml", "more": "1"}
    place.action(hook(f"{url}?spec=bad.yaml"))
    error = place.refused()
    assert "answered 422: line 1 line 2" in error.fact
    assert error.details == "line 1\nline 2"  # type: ignore[attr-defined]


def test_a_handler_answers_for_this_machine_only(tmp_path: Path) -> None:
    place = Place(tmp_path, handlers={"/validate": lambda *_: (200, "")})
    for url in ("https://10.0.0.1/validate", "http://10.0.0.1/validate"):
        place.action(url)
        place.refused()
    for number, url in enumerate(["http://localhost:9/validate", "http://[::1]/validate", "http://127.9.9.9/validate"]):
        place.action(url)
        place.put("x", str(number))
        place.commit()


# -- what is kept -------------------------------------------------------------------------------------


def test_runs_are_listed_the_newest_first_by_branch_and_by_commit(place: Place, server: Server) -> None:
    place.action(server.url("/x"), on={"pre-commit": None, "post-commit": None})
    first = place.commit()
    place.lake.create_branch("repo", "topic", "main")
    place.put("x", "1", "topic")
    second = place.commit("topic")
    runs = place.actions.runs("repo")
    assert [(run.event, run.branch) for run in runs] == [
        ("post-commit", "topic"), ("pre-commit", "topic"), ("post-commit", "main"), ("pre-commit", "main"),
    ]  # fmt: skip
    assert [run.id for run in runs] == sorted(run.id for run in runs)
    assert [run.commit for run in runs] == [second.id, second.id, first.id, first.id]
    assert place.actions.runs("repo", branch="main") == runs[2:]
    assert place.actions.runs("repo", commit=second.id) == runs[:2]
    assert place.actions.runs("repo", after=runs[0].id, most=2) == runs[1:3]
    assert place.actions.runs("other") == []


def test_a_run_is_read_as_it_was_kept(place: Place, server: Server) -> None:
    place.action(server.url("/x"))
    made = place.commit()
    (run,) = place.actions.runs("repo")
    assert Actions(place.actions.folder).run("repo", run.id) == run
    assert run.document()["commit_id"] == made.id
    assert run.started <= run.hooks[0].started <= run.hooks[0].ended <= run.ended
    assert set(run.hooks[0].document()) == {"hook_run_id", "action", "hook_id", "start_time", "end_time", "status"}
    assert run.hooks[0].id == "0000_0000"


@pytest.mark.parametrize("id", ["../../x", "x", "0" * 20])
def test_a_run_that_is_not_there_is_not_found(place: Place, id: str) -> None:
    with pytest.raises(UsageError, match="no run of hooks"):
        place.actions.run("repo", id)


def test_a_hook_that_did_not_run_has_no_times_but_those_of_lakefs(place: Place) -> None:
    assert HookRun(id="0000_0001", action="a", hook="h").document()["start_time"] == "0001-01-01T00:00:00Z"


def test_a_commit_of_nothing_stays_one_whatever_the_hooks_say(place: Place, server: Server) -> None:
    place.action(server.url("/x"))
    place.commit()
    with pytest.raises(NothingToCommit):
        place.commit()

"""``engine lake``: what a user types, and what it does to the lake, to files and to the exit code."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.cli.main import main
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import Lake
from engine.wiring import Home, open_home
from lakes import served_address
from projects import Done, engine, make_project


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose lake has a repository with two branches that conflict in ``fought``."""
    made = tmp_path / "project"
    made.mkdir()
    (made / "pyproject.toml").write_text("")
    lake = open_home(made).lake
    lake.create_repository("repo")
    add(lake, "main", {"a.csv": "1,2\n", "d/b.csv": "22", "d/e/c.csv": "333", "fought": "0"})
    lake.create_branch("repo", "dev", "main")
    add(lake, "dev", {"fought": "1", "new": "1"})
    add(lake, "main", {"fought": "2"})
    lake.create_tag("repo", "v1", "main")
    return made


def add(lake: Lake, branch: str, texts: dict[str, str], message: str = "") -> str:
    for path, text in texts.items():
        lake.put("repo", branch, path, io.BytesIO(text.encode()))
    return lake.commit("repo", branch, message or f"on {branch}", author="test", time=86_400).id


def home(root: Path) -> Home:
    return open_home(root)


def texts(root: Path, ref: str = "main") -> dict[str, str]:
    lake = home(root).lake
    found = {}
    for entry in lake.list("repo", ref):
        with lake.open("repo", ref, entry.path) as stream:
            found[entry.path] = stream.read().decode()
    return found


def run(root: Path, *words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """A command of the lake whose input or output is bytes."""
    command = [sys.executable, "-m", "engine.cli.main", "lake", *words]
    return subprocess.run(command, cwd=root, input=data, capture_output=True, timeout=60, check=False)


def lake(root: Path, *words: str) -> Done:
    """A command in this process: starting one takes longer than most commands."""
    out, err, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    with contextlib.chdir(root), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["lake", *words])
    signal.signal(signal.SIGTERM, before)
    return Done(code, out.getvalue(), err.getvalue())


MAIN, DEV = "lakefs://repo/main", "lakefs://repo/dev"

COMMANDS = [
    ("repos list", 0), ("repos create lakefs://other", 0), ("repos create other --default-branch trunk", 0),
    ("repos create repo", 2), ("repos create A", 2), ("repos delete repo", 2), ("repos delete repo --yes", 0),
    ("repos delete nope --yes", 2), ("branches list lakefs://repo", 0), ("branches list repo", 0),
    (f"branches create lakefs://repo/new --from {MAIN}", 0), ("branches create lakefs://repo/new --from main~1", 0),
    ("branches create lakefs://repo/new --from lakefs://other/main", 2), (f"branches create {DEV} --from main", 2),
    ("branches create lakefs://repo/new", 2), (f"branches delete {DEV}", 0), (f"branches delete {MAIN}", 2),
    ("branches delete lakefs://repo/nope", 2), ("tags list lakefs://repo", 0), ("tags create lakefs://repo/v2 main", 0),
    (f"tags create lakefs://repo/v2 --from {DEV}", 0), ("tags create lakefs://repo/v2", 2),
    ("tags create lakefs://repo/v1 main", 2), ("tags delete lakefs://repo/v1", 0), ("tags delete lakefs://repo/v3", 2),
    (f"ls {MAIN}", 0), (f"ls {MAIN}/ --recursive", 0), ("ls lakefs://repo", 2), ("ls repo/main", 2),
    ("ls lakefs://repo/mian", 2), ("ls", 2), (f"stat {MAIN}/a.csv", 0), (f"stat {MAIN}/a.cvs", 2),
    (f"cat {MAIN}/a.csv", 0), (f"cat {MAIN}/nope", 2), (f"put pyproject.toml {MAIN}/p", 0), (f"put nope {MAIN}/p", 2),
    (f"put pyproject.toml {MAIN}/p --commit", 2), (f"put pyproject.toml {MAIN}/p -m text", 2),
    ("put pyproject.toml lakefs://repo/v1/p", 2), (f"put pyproject.toml {MAIN}/p --commit -m text --meta x", 2),
    (f"put pyproject.toml {MAIN}/p --delete", 2), (f"put - {MAIN}/", 2), (f"get {MAIN}/a.csv", 0),
    (f"get {MAIN}/a.csv nope/x", 2), (f"get {MAIN}/d out", 0), (f"get {MAIN}/nope", 2), (f"get {MAIN}/nope/", 2),
    (f"rm {MAIN}/a.csv", 0), (f"rm {MAIN}/d/", 2), (f"rm {MAIN}/d -r", 0), (f"rm {MAIN}/nope -r", 2), (f"status {DEV}", 0),
    ("status lakefs://repo/v1", 2), (f"commit {MAIN} -m text", 2), (f"commit {MAIN}", 2),
    (f"commit {MAIN} -m text --allow-empty", 0), (f"commit {MAIN}/path -m text", 2), (f"log {MAIN}", 0),
    (f"log {MAIN} -n 1 --first-parent", 0), (f"log {MAIN}~9", 2), (f"diff {MAIN} {DEV}", 0),
    (f"diff {MAIN} {DEV} --two-dot", 0), (f"diff {MAIN} {DEV} --exit-code", 1), (f"diff {MAIN} {MAIN} --exit-code", 0),
    (f"diff {MAIN}", 0), (f"diff {MAIN} --two-dot", 2), (f"diff {MAIN} lakefs://other/main", 2),
    (f"diff {MAIN}/a {DEV}/b", 2), (f"merge {DEV} {MAIN}", 1), (f"merge {DEV} {MAIN} --strategy source-wins", 0),
    (f"merge {DEV} {MAIN} --strategy dest-wins -m text", 0), (f"merge {DEV} {MAIN} --strategy mine", 2),
    (f"merge {DEV} lakefs://other/main", 2), (f"merge {MAIN}~1 {MAIN}", 2), (f"revert {MAIN} main -m undo", 0),
    (f"revert {MAIN} {MAIN}", 0), (f"revert {MAIN} nope", 2), (f"revert {DEV} main", 1), (f"cherry-pick {DEV} main", 1),
    (f"cherry-pick {MAIN} nope", 2), (f"reset {MAIN}", 0), ("reset lakefs://repo/nope --yes", 2), ("gc", 0),
    ("gc --older-than soon", 2), ("fsck", 0), ("", 2), ("nope", 2), ("repos", 2),
]  # fmt: skip
IN_PROCESS = """
import contextlib, io, json, shutil, sys
from pathlib import Path
from engine.cli.main import main
root, done = Path.cwd(), []
kept = root.with_name("kept")
shutil.copytree(root, kept)
for words in json.load(sys.stdin):
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    done.append([code, out.buffer.getvalue().decode(), err.getvalue()])
    for path in root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(kept, root, dirs_exist_ok=True)
json.dump(done, sys.stdout)
"""


def run_each(root: Path, commands: list[list[str]]) -> list[Done]:
    """Each command on the same lake as it was at first; in one process, as starting a hundred takes a minute."""
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESS],
        cwd=root,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [Done(*item) for item in json.loads(done.stdout)]


def test_a_command_has_its_exit_code_and_an_error_its_next_act(root: Path) -> None:
    for (words, code), found in zip(
        COMMANDS, run_each(root, [["lake", *words.split()] for words, _ in COMMANDS]), strict=True
    ):
        assert found.code == code, (words, found)
        assert "Traceback" not in found.err
        assert (found.out == "") or code < 2 or words.startswith("put -"), words
        assert code < 2 or len(found.err.splitlines()) > 1, words


def test_json_is_one_document_on_standard_output(root: Path) -> None:
    commands = [["lake", *words.split(), "--json"] for words, _ in COMMANDS]
    for (words, code), found in zip(COMMANDS, run_each(root, commands), strict=True):
        document = json.loads(found.out)
        assert found.code == code, (words, found)
        failed = code == 2 or (code == 1 and "--exit-code" not in words)
        assert ("error" in document) == failed, words
        if failed:
            assert document["error"].keys() >= {"code", "message", "place", "hint"}
            assert document["error"]["hint"] or words in ("",), words


def test_a_first_session_as_the_readme_tells_it(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.csv").write_text("1")
    (tmp_path / "data" / "sub" / "b.csv").write_text("22")
    assert lake(tmp_path, "repos", "create", "lakefs://mine").code == 0
    put = lake(
        tmp_path, "put", "data", "lakefs://mine/main/in/", "--commit", "-m", "first", "--meta", "k=v", "--json"
    ).json
    assert (put["files"], put["size"], put["read"], put["changes"]) == (2, 3, 2, 2)
    assert (put["commit"]["message"], put["commit"]["metadata"]) == ("first", {"k": "v"})
    listed = lake(tmp_path, "ls", "lakefs://mine/main/in/", "--json").json["entries"]
    assert [(item["path"], item["type"]) for item in listed] == [("in/a.csv", "object"), ("in/sub/", "prefix")]
    assert lake(tmp_path, "get", "lakefs://mine/main/in", "back").code == 0
    assert (tmp_path / "back" / "sub" / "b.csv").read_text() == "22"
    (tmp_path / "data" / "a.csv").unlink()
    again = lake(tmp_path, "put", "data", "lakefs://mine/main/in", "--delete", "--json").json
    assert (again["changes"], again["commit"]) == (1, None)
    assert lake(tmp_path, "status", "lakefs://mine/main").out == "- in/a.csv\n"


def test_the_commands_are_the_same_for_a_lake_on_a_server(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "data" / "sub").mkdir(parents=True)
    (root / "data" / "a.csv").write_text("1")
    (root / "data" / "sub" / "b.csv").write_text("22")
    with served_address(tmp_path / "server") as found:
        monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", found.endpoint)
        monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", found.access_key_id)
        monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", found.secret_access_key)
        assert lake(root, "repos", "list", "--json").json == {"repositories": []}
        assert lake(root, "repos", "create", "far").code == 0
        done = lake(root, "put", "data", "lakefs://far/main/in", "--commit", "-m", "first", "--json").json
        assert (done["changes"], done["commit"]["message"]) == (2, "first")
        assert lake(root, "put", "data/a.csv", "lakefs://far/main/").code == 0
        assert lake(root, "status", "lakefs://far/main").out == "+ a.csv\n"
        assert lake(root, "get", "lakefs://far/main", "back", "--json").json["written"] == 3
        assert lake(root, "get", "lakefs://far/main", "back", "--json").json["written"] == 0
        assert (root / "back" / "in" / "sub" / "b.csv").read_text() == "22"
        assert lake(root, "rm", "lakefs://far/main/in", "-r", "--json").json["removed"] == 2
        assert lake(root, "gc").code == 2
        assert 'did you mean "far"' in lake(root, "ls", "lakefs://fra/main").err
    assert lake(root, "ls", "lakefs://far/main", "--json").json["error"]["code"] == "lake-unavailable"


# -- objects ------------------------------------------------------------------------------------------


def test_bytes_go_in_by_standard_input_and_come_out_by_standard_output(root: Path) -> None:
    data = bytes(range(256)) * 5000
    assert run(root, "put", "-", f"{MAIN}/b.bin", data=data).returncode == 0
    assert run(root, "cat", f"{MAIN}/b.bin").stdout == data
    document = json.loads(run(root, "cat", f"{MAIN}/b.bin", "--json").stdout)
    assert base64.b64decode(document["base64"]) == data


def test_a_file_put_into_a_folder_keeps_its_name(root: Path) -> None:
    (root / "x y.csv").write_text("z")
    lake(root, "put", "x y.csv", f"{MAIN}/d/")
    lake(root, "put", "x y.csv", "lakefs://repo/main")
    assert {path: text for path, text in texts(root).items() if "x" in path} == {"d/x y.csv": "z", "x y.csv": "z"}


def test_putting_a_file_that_is_there_already_commits_nothing(root: Path) -> None:
    (root / "a.csv").write_text("1,2\n")
    head = home(root).lake.resolve("repo", "main")
    found = lake(root, "put", "a.csv", f"{MAIN}/a.csv", "--commit", "-m", "again", "--json")
    assert (found.code, found.json["changes"], found.json["commit"]) == (0, 0, None)
    assert home(root).lake.resolve("repo", "main") == head


def test_the_lake_is_not_put_into_itself(root: Path) -> None:
    found = lake(root, "put", ".", f"{MAIN}/all/")
    assert (found.code, lake(root, "status", MAIN).out) == (2, "")
    assert "own state" in found.err


def test_what_a_process_gives_is_put_like_a_file(root: Path) -> None:
    os.mkfifo(root / "pipe")
    command = [sys.executable, "-m", "engine.cli.main", "lake", "put", "pipe", f"{MAIN}/p"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE)
    (root / "pipe").write_bytes(b"through a pipe")
    process.communicate(timeout=60)
    assert (process.returncode, texts(root)["p"]) == (0, "through a pipe")


def test_a_folder_is_listed_by_its_own_level(root: Path) -> None:
    shown = [line.split()[-1] for line in lake(root, "ls", MAIN).out.splitlines()]
    assert shown == ["a.csv", "d/", "fought"]
    shown = [line.split()[-1] for line in lake(root, "ls", f"{MAIN}/d/", "--recursive").out.splitlines()]
    assert shown == ["d/b.csv", "d/e/c.csv"]
    assert len(lake(root, "ls", MAIN, "-r", "--after", "a.csv", "--amount", "2").out.splitlines()) == 2


def test_an_object_and_a_folder_are_taken_out(root: Path) -> None:
    assert lake(root, "get", f"{MAIN}/d/b.csv").code == 0
    assert (root / "b.csv").read_text() == "22"
    assert lake(root, "get", f"{MAIN}/a.csv", "named").code == 0
    assert (root / "named").read_text() == "1,2\n"
    done = lake(root, "get", f"{MAIN}/d", "out", "--json").json
    assert (done["files"], done["size"], done["written"]) == (2, 5, 2)
    assert (root / "out" / "e" / "c.csv").read_text() == "333"


def test_another_file_is_overwritten_only_by_force(root: Path) -> None:
    (root / "a.csv").write_text("mine")
    found = lake(root, "get", f"{MAIN}/a.csv")
    assert (found.code, (root / "a.csv").read_text()) == (2, "mine")
    assert "--force" in found.err
    assert lake(root, "get", f"{MAIN}/a.csv", "--force").code == 0
    assert (root / "a.csv").read_text() == "1,2\n"


def test_no_file_leaves_its_folder(root: Path) -> None:
    home(root).lake.put("repo", "main", "bad/../../evil", io.BytesIO(b"x"))
    found = lake(root, "get", f"{MAIN}/bad", "out/deep")
    assert (found.code, "bad/../../evil" in found.err) == (2, True)
    assert not list(root.rglob("evil"))
    assert not (root / "out").exists()


def test_altered_bytes_are_not_taken_out_and_found(root: Path) -> None:
    (pack,) = (root / ".engine" / "objects" / "packs").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[data.index(b"333")] ^= 1
    pack.write_bytes(data)
    found = lake(root, "get", f"{MAIN}/d/e/c.csv")
    assert (found.code, (root / "c.csv").exists()) == (1, False)
    checked = lake(root, "fsck", "--json")
    assert (checked.code, [item["what"] for item in checked.json["damage"]]) == (1, ["object"])


def test_a_folder_is_removed_and_what_is_staged_is_dropped(root: Path) -> None:
    assert lake(root, "rm", f"{MAIN}/d", "--recursive", "--json").json["removed"] == 2
    assert lake(root, "status", MAIN).out == "- d/b.csv\n- d/e/c.csv\n"
    refused = lake(root, "reset", MAIN)
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert lake(root, "reset", f"{MAIN}/d/e/", "--yes", "--json").json["dropped"] == 1
    assert lake(root, "diff", MAIN).out == "- d/b.csv\n"
    assert lake(root, "reset", MAIN, "--yes").code == 0
    assert "d/b.csv" in texts(root)


def test_a_branch_with_staged_changes_is_deleted_only_on_purpose(root: Path) -> None:
    home(root).lake.put("repo", "dev", "x", io.BytesIO(b"x"))
    assert lake(root, "branches", "delete", DEV).code == 2
    assert lake(root, "branches", "delete", DEV, "--yes").code == 0
    assert list(home(root).lake.branches("repo")) == ["main"]


# -- history ------------------------------------------------------------------------------------------


def test_a_commit_is_by_whom_git_knows_else_by_the_login_name(root: Path) -> None:
    def author(*words: str) -> str:
        made = lake(root, "commit", MAIN, "-m", "text", "--allow-empty", "--json", *words).json
        return str(made["author"])

    assert author("--author", "Ann <ann@example.org>") == "Ann <ann@example.org>"
    assert author() == subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
    subprocess.run(["git", "config", "user.name", "Bob"], cwd=root, check=True)
    assert author() == "Bob"
    subprocess.run(["git", "config", "user.email", "bob@example.org"], cwd=root, check=True)
    assert author() == "Bob <bob@example.org>"


def test_a_diff_says_what_a_merge_would_bring(root: Path) -> None:
    assert lake(root, "diff", MAIN, DEV).out == "! fought  (conflict)\n+ new\n"
    assert lake(root, "diff", MAIN, DEV, "--two-dot").out == "~ fought\n+ new\n"
    assert lake(root, "diff", f"{MAIN}/n", f"{DEV}/n").out == "+ new\n"


def test_a_conflict_is_named_and_a_strategy_decides_it(root: Path) -> None:
    found = lake(root, "merge", DEV, MAIN)
    assert (found.code, "fought" in found.err, "--strategy" in found.err) == (1, True, True)
    made = lake(root, "merge", DEV, MAIN, "--strategy", "source-wins", "-m", "ours", "--meta", "k=v", "--json").json
    assert (len(made["parents"]), made["message"], made["metadata"]) == (2, "ours", {"k": "v"})
    assert (texts(root)["fought"], texts(root)["new"]) == ("1", "1")
    assert lake(root, "revert", MAIN, "main").code == 2
    assert lake(root, "revert", MAIN, "main", "--parent", "1", "-m", "undo").code == 0
    assert texts(root)["fought"] == "2"


def test_a_commit_is_picked_onto_another_branch(root: Path) -> None:
    picked = add(home(root).lake, "dev", {"picked": "1"}, "worth it")
    made = lake(root, "cherry-pick", MAIN, f"lakefs://repo/{picked}", "--json").json
    assert (made["message"], texts(root)["picked"], "new" in texts(root)) == ("worth it", "1", False)


def test_the_log_tells_of_commits_the_newest_first(root: Path) -> None:
    shown = lake(root, "log", MAIN).out
    commits = list(home(root).lake.log("repo", "main"))
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("commit ")] == [
        item.id for item in commits
    ]
    assert "Date:   1970-01-02 00:00:00 UTC" in shown
    assert [item["id"] for item in lake(root, "log", MAIN, "-n", "2", "--json").json["commits"]] == [
        item.id for item in commits[:2]
    ]


def test_nothing_that_a_terminal_obeys_comes_from_the_lake(root: Path) -> None:
    evil = "e\x1b]0;title\x07\x1b[31mvil\r\n"
    made = home(root).lake
    made.put("repo", "main", evil, io.BytesIO(b"x"), content_type=evil, metadata={evil: evil})
    said = [lake(root, "status", MAIN).out, lake(root, "ls", MAIN).out, lake(root, "stat", f"{MAIN}/{evil}").out]
    made.commit("repo", "main", evil, author=evil, metadata={evil: evil})
    said += [lake(root, "log", MAIN, "-n", "1").out, lake(root, "diff", f"{MAIN}~1", MAIN).out]
    said += [lake(root, "stat", f"{MAIN}/{evil}x").err, lake(root, "rm", f"{MAIN}/{evil}x").err]
    for text in said:
        assert "evil" in text
        assert not set(text) & set("\x1b\x07\r")


# -- upkeep -------------------------------------------------------------------------------------------


def test_what_nothing_names_is_collected(root: Path) -> None:
    made = home(root).lake
    add(made, "dev", {"only here": "12345678"})
    assert lake(root, "gc", "--json").json == {"commits": 0, "objects": 0, "size": 0}
    made.delete_branch("repo", "dev")
    assert lake(root, "gc", "--older-than", "0s", "--json").json["size"] == 9
    assert lake(root, "fsck").code == 0


def test_what_a_run_pins_is_never_collected(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    assert engine(project.root, "run", "spec.yaml", "--inline").code == 0
    state = open_home(project.root)
    data = [entry.digest for entry in state.lake.list("numbers", "main")]
    state.lake.put("numbers", "main", "unused", io.BytesIO(b"unused"))
    state.lake.delete_repository("numbers")
    assert lake(project.root, "gc", "--older-than", "0s", "--json").json == {"commits": 0, "objects": 1, "size": 6}
    assert all(state.store.has_bytes(digest) for digest in data)
    assert isinstance(state.lake, EmbeddedLake)
    assert list(state.lake.fsck()) == []
    for folder in ("runs", "cache", "seals"):
        shutil.rmtree(project.home / folder)
    (project.home / "registry.db").unlink()
    assert lake(project.root, "gc", "--older-than", "0s", "--json").json["objects"] >= len(set(data))


# -- terminals ----------------------------------------------------------------------------------------


def in_terminal(root: Path, command: list[str], answer: bytes = b"") -> tuple[int, str]:
    """The exit code and everything that a person sees."""
    outer, inner = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, cwd=root, stdin=inner, stdout=inner, stderr=inner, env=environment)
    os.close(inner)
    seen, until = b"", time.monotonic() + 60
    while time.monotonic() < until and select.select([outer], [], [], 60)[0]:
        try:
            block = os.read(outer, 1 << 16)
        except OSError:  # Linux's word for the end of a terminal
            break
        if not block:
            break
        seen += block
        if answer and b"?" in seen:
            os.write(outer, answer)
            answer = b""
    process.wait(timeout=60)
    os.close(outer)
    return process.returncode, seen.decode()


def test_a_person_is_asked_before_anything_is_lost(root: Path) -> None:
    command = [sys.executable, "-m", "engine.cli.main", "lake", "reset", MAIN]
    home(root).lake.put("repo", "main", "x", io.BytesIO(b"x"))
    code, seen = in_terminal(root, command, b"n\n")
    assert (code, "x" in texts(root)) == (1, True)
    assert "Drop 1 staged change" in seen
    assert in_terminal(root, command, b"y\n")[0] == 0
    assert "x" not in texts(root)


SLOW = """
import sys, time
from engine.cli import lake_progress
lake_progress.PATIENCE = lake_progress.BETWEEN_LINES = 0.05
with lake_progress.bytes_done("put", 30 << 20) as progress:
    for _ in range(30):
        time.sleep(0.02)
        progress(1 << 20)
"""


def test_a_terminal_shows_a_bar_and_a_pipe_a_line_now_and_then(root: Path) -> None:
    code, seen = in_terminal(root, [sys.executable, "-c", SLOW])
    assert (code, "\x1b[" in seen, "30.0/31.5 MB" in seen or "MiB" in seen) == (0, True, True)
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert 3 <= len(lines) <= 15
    assert all(line.startswith("put: ") and line.endswith(" of 30.0 MiB") for line in lines)
    assert done.stdout == ""


def test_what_is_over_at_once_shows_no_progress(root: Path) -> None:
    assert lake(root, "get", f"{MAIN}/d", "out").err == ""
    code, seen = in_terminal(root, [sys.executable, "-m", "engine.cli.main", "lake", "get", MAIN, "out2"])
    assert (code, "\x1b[" in seen) == (0, False)

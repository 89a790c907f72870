"""Where a lake server is and how to get in: what is read, what wins, and what is said of what is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.lake.credentials import Credentials, credentials, endpoint_from

ENDPOINT, ID, SECRET = (
    "LAKECTL_SERVER_ENDPOINT_URL",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
)
SET = {ENDPOINT: "https://lake.invalid/api/v1/", ID: "id", SECRET: "hidden"}
FILE = (
    "server:\n  endpoint_url: http://file.invalid:8000\ncredentials:\n  access_key_id: f\n  secret_access_key: hidden\n"
)


def write(home: Path, content: str | bytes) -> Path:
    path = home / ".lakectl.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_nothing_names_no_server(tmp_path: Path) -> None:
    assert credentials({}, tmp_path) is None


def test_the_file_alone_names_a_server(tmp_path: Path) -> None:
    write(tmp_path, FILE)
    found = Credentials(endpoint="http://file.invalid:8000", access_key_id="f", secret_access_key="hidden")
    assert credentials({}, tmp_path) == found


@pytest.mark.parametrize(
    ("variable", "field", "value"),
    [(ENDPOINT, "endpoint", "http://mine"), (ID, "access_key_id", "mine"), (SECRET, "secret_access_key", "mine")],
)
def test_a_variable_wins_over_the_file_for_itself_only(tmp_path: Path, variable: str, field: str, value: str) -> None:
    write(tmp_path, FILE)
    alone, found = credentials({}, tmp_path), credentials({variable: value}, tmp_path)
    assert alone is not None
    assert found is not None
    changed = {name for name in Credentials.__slots__ if getattr(alone, name) != getattr(found, name)}
    assert (changed, getattr(found, field)) == ({field}, value)


def test_an_empty_variable_does_not_hide_the_file(tmp_path: Path) -> None:
    write(tmp_path, FILE)
    assert credentials({ENDPOINT: "", ID: "", SECRET: ""}, tmp_path) == credentials({}, tmp_path)


def test_a_key_that_looks_like_a_number_is_taken_as_it_is_written(tmp_path: Path) -> None:
    write(tmp_path, "server: {endpoint_url: host:8000}\ncredentials: {access_key_id: 0123, secret_access_key: 1_0e3}\n")
    found = credentials({}, tmp_path)
    assert found is not None
    assert (found.endpoint, found.access_key_id, found.secret_access_key) == ("http://host:8000", "0123", "1_0e3")


@pytest.mark.parametrize("content", ["", "- a\n", "server: 3\n", "server:\n  endpoint_url:\n", "server: ~\nother: 1\n"])
def test_a_file_that_names_no_server_is_as_none(tmp_path: Path, content: str) -> None:
    write(tmp_path, content)
    assert credentials({}, tmp_path) is None


@pytest.mark.parametrize("missing", sorted(SET))
def test_half_a_configuration_names_what_is_missing(tmp_path: Path, missing: str) -> None:
    with pytest.raises(UsageError, match=f": no {missing}; ") as raised:
        credentials({name: value for name, value in SET.items() if name != missing}, tmp_path)
    assert ".lakectl.yaml" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("https://h", "https://h"),
        ("https://h/", "https://h"),
        ("https://h/api/v1", "https://h"),
        ("https://h/api/v1//", "https://h"),
        ("https://h/lake/api/v1/", "https://h/lake"),
        ("h:8000", "http://h:8000"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_an_endpoint_may_end_as_every_endpoint_does(text: str, endpoint: str) -> None:
    assert endpoint_from(text) == endpoint


WRONG = [
    "ftp://x", "http://", "http://host?x=1", "http://host#x", "://", "http://[::1", "http://h:99999", "http://h:x",
    "http://h:0", "http://a b", "http://h\0", "http://h\n",
]  # fmt: skip


@pytest.mark.parametrize("url", WRONG)
def test_what_is_no_endpoint_is_refused_where_it_was_written(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="is not the URL of a server") as raised:
        credentials({**SET, ENDPOINT: url}, tmp_path)
    assert raised.value.place == ENDPOINT


def test_an_endpoint_in_the_file_that_is_none_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, FILE.replace("http:", "ftp:"))
    with pytest.raises(UsageError) as raised:
        credentials({}, tmp_path)
    assert raised.value.place == str(path)


def test_a_password_in_an_endpoint_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="password in the URL") as raised:
        credentials({**SET, ENDPOINT: "http://user:hidden@host"}, tmp_path)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("name", [ID, SECRET])
@pytest.mark.parametrize("value", ["hidden€", "hidden\n", "hid\0den"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(UsageError, match="characters that are in no key") as raised:
        credentials({**SET, name: value}, tmp_path)
    assert (raised.value.place, "hid" in str(raised.value)) == (name, False)


@pytest.mark.parametrize(
    "broken", ["a: [", "a: b: c", "\ta: 1", "a: *nowhere", "a: !!set {[1]: 2}\nb: ]", "'", "[" * 3000]
)
def test_a_file_that_is_not_yaml_is_named_and_not_quoted(tmp_path: Path, broken: str) -> None:
    path = write(tmp_path, f"{FILE}{broken}")
    with pytest.raises(UsageError, match="is not YAML|nested too deeply") as raised:
        credentials({}, tmp_path)
    assert raised.value.place.startswith(str(path))
    assert "hidden" not in str(raised.value)


def test_a_file_that_is_not_yaml_is_named_with_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, FILE + "broken: ]\n")
    with pytest.raises(UsageError) as raised:
        credentials({}, tmp_path)
    assert re.fullmatch(rf"{re.escape(str(path))}:6:\d+", raised.value.place)


def test_yaml_that_would_make_objects_makes_none(tmp_path: Path) -> None:
    write(tmp_path, f"a: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    assert credentials({}, tmp_path) is None
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("value", ["[1]", "{a: b}"])
def test_a_value_that_is_no_text_is_named(tmp_path: Path, value: str) -> None:
    write(tmp_path, f"server:\n  endpoint_url: {value}\n")
    with pytest.raises(UsageError, match=r"server\.endpoint_url is not a text"):
        credentials({}, tmp_path)


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def latin(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def never_read(path: Path) -> None:
    path.symlink_to("/proc/self/mem")  # whose first byte not even root can read


@pytest.mark.parametrize("made", [folder, loop, latin, never_read])
def test_a_file_that_cannot_be_read_is_an_error_and_not_no_server(tmp_path: Path, made: object) -> None:
    made(tmp_path / ".lakectl.yaml")  # type: ignore[operator]
    with pytest.raises(UsageError, match="cannot be read: .") as raised:
        credentials({}, tmp_path)
    assert raised.value.place == str(tmp_path / ".lakectl.yaml")


def test_a_file_that_cannot_be_read_does_not_matter_when_the_variables_say_all(tmp_path: Path) -> None:
    write(tmp_path, b"\xff")
    found = credentials(SET, tmp_path)
    assert found is not None
    assert found.endpoint == "https://lake.invalid"


def test_the_secret_is_in_no_repr() -> None:
    found = Credentials(endpoint="http://x", access_key_id="i", secret_access_key="hidden")
    assert "hidden" not in f"{found} {found!r}"


def test_a_project_needs_no_home_of_its_user() -> None:
    code = """if 1:
        import os, sys
        from pathlib import Path
        import yaml, engine.lake.credentials, engine.lake.embedded.lake, engine.lake.hooks
        from engine.wiring import open_home
        os.setuid(54321) if os.getuid() == 0 else sys.exit("skip")
        print(open_home(Path("/")).server)
    """
    bare = {name: value for name, value in os.environ.items() if name != "HOME"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd="/", env=bare, capture_output=True, text=True, check=False)
    if done.stderr.startswith("skip"):
        pytest.skip("only root may become nobody")
    assert done.stdout.strip() == "None", done.stderr

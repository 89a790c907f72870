"""Every kind of lake that must do the same, and what tests of them share. To test another kind, add it to ``KINDS``."""

from __future__ import annotations

import io
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.lake.credentials import Credentials, credentials
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.lakefs import Server
from engine.lake.protocol import Commit, Entry, Lake, Signed
from engine.lake.remote import RemoteLake
from engine.store.objects import ObjectStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A lake to test. ``examples`` is how many a property is tried on: fewer where each takes longer."""

    name: str
    lake: Lake
    objects: ObjectStore
    examples: int


@contextmanager
def embedded(folder: Path) -> Iterator[Kind]:
    """The embedded lake, in this process."""
    objects = ObjectStore(folder / "objects")
    yield Kind(name="embedded", lake=EmbeddedLake(folder / "lake", objects), objects=objects, examples=20)


@contextmanager
def served_address(folder: Path, *options: str) -> Iterator[Credentials]:
    """``engine lake serve`` for a project in ``folder``, in a process of its own, and the key for it."""
    (folder / ".engine").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "engine.cli.main", "lake", "serve", "--port", "0", "--json", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            yield Credentials(
                endpoint=said["endpoint"],
                access_key_id=said["access_key_id"],
                secret_access_key=said["secret_access_key"],
            )
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def served(folder: Path) -> Iterator[Kind]:
    """``engine lake serve`` over a socket, through the client of lakeFS."""
    objects = ObjectStore(folder / "client" / "objects")
    with served_address(folder / "server") as found:
        lake = RemoteLake(Server(found), objects, folder / "client" / "cache")
        yield Kind(name="served", lake=lake, objects=objects, examples=4)


@contextmanager
def lakefs(folder: Path) -> Iterator[Kind]:
    """The lakeFS server that the environment of this test run names."""
    assert REAL is not None
    objects = ObjectStore(folder / "objects")
    yield Kind(name="lakefs", lake=RemoteLake(Server(REAL), objects, folder / "cache"), objects=objects, examples=4)


REAL = credentials(os.environ, Path.home()) if os.environ.get("ENGINE_TEST_LAKEFS") == "1" else None
KINDS: dict[str, Callable[[Path], AbstractContextManager[Kind]]] = {
    "embedded": embedded,
    "served": served,
    "lakefs": lakefs,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A repository of its own, with short ways to do what most tests do."""

    lake: Lake
    name: str
    objects: ObjectStore

    def put(self, path: str, text: str = "x", branch: str = "main") -> Entry:
        """Stage a text."""
        return self.lake.put(self.name, branch, path, io.BytesIO(text.encode()))

    def commit(self, message: str = "m", branch: str = "main") -> Commit:
        """Commit what is staged."""
        return self.lake.commit(self.name, branch, message, author="a")

    def add(self, branch: str = "main", **texts: str | None) -> Commit:
        """Put (or, for ``None``, delete) objects and commit them."""
        for path, text in texts.items():
            if text is None:
                self.lake.delete(self.name, branch, path)
            else:
                self.put(path, text, branch)
        return self.commit(f"add {sorted(texts)} to {branch}", branch)

    def branch(self, name: str, source: str = "main") -> str:
        """Make a branch; its commit."""
        return self.lake.create_branch(self.name, name, source)

    def read(self, path: str, ref: str = "main") -> str:
        """An object's text."""
        with self.lake.open(self.name, ref, path) as stream:
            return stream.read().decode()

    def paths(self, ref: str = "main", prefix: str = "", after: str = "", delimiter: str = "") -> list[str]:
        """What a listing gives."""
        return [entry.path for entry in self.lake.list(self.name, ref, prefix, after=after, delimiter=delimiter)]

    def texts(self, ref: str = "main") -> dict[str, str]:
        """Everything at a ref."""
        return {path: self.read(path, ref) for path in self.paths(ref)}

    def changes(self, branch: str = "main", prefix: str = "", after: str = "") -> dict[str, str]:
        """What is staged."""
        return {item.path: item.change for item in self.lake.changes(self.name, branch, prefix, after=after)}

    def diff(self, left: str, right: str, prefix: str = "", after: str = "", two_dot: bool = False) -> dict[str, str]:
        """What differs."""
        found = self.lake.diff(self.name, left, right, prefix, after=after, two_dot=two_dot)
        return {item.path: item.change for item in found}

    def merge(self, source: str, destination: str = "main", strategy: str = "") -> Commit:
        """Merge branches."""
        return self.lake.merge(self.name, source, destination, signed(), strategy=strategy)  # type: ignore[arg-type]

    def head(self, branch: str = "main") -> str:
        """The commit of a branch."""
        return self.lake.resolve(self.name, branch)

    def log(self, ref: str = "main", first_parent: bool = False) -> list[str]:
        """The ids of the commits that a ref comes from."""
        return [commit.id for commit in self.lake.log(self.name, ref, first_parent=first_parent)]


def signed(message: str = "merged") -> Signed:
    """Somebody's words."""
    return Signed(message=message, author="a")


@contextmanager
def new_place(kind: Kind) -> Iterator[Place]:
    """A repository of its own, which is removed afterwards."""
    name = f"contract-{secrets.token_hex(6)}"
    kind.lake.create_repository(name)
    try:
        yield Place(lake=kind.lake, name=name, objects=kind.objects)
    finally:
        kind.lake.delete_repository(name)


def wanted_kinds() -> list[str]:
    """The kinds of lake that are there to be tested."""
    return [name for name in KINDS if name != "lakefs" or REAL is not None]

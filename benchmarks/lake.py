"""The lake beside DVC 3.67: the same files, warm caches, both in processes of their own, in turn.

    .venv/bin/python benchmarks/lake.py [--rounds 3] [--only small|large|server|million]

``work`` is timed in a process that has imported all it needs; ``command`` from the start of a command to its end.
DVC's figures leave out the git commit that makes a version of what it added; ours are durable commits.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers import Table, alternate, answer, command, compile_ours, environment, quiet_environment, scratch

DVC = ("dvc==3.67.0", "pathspec<1")
FILES, GIB = 10_000, 1 << 30
BIN = Path(sys.executable).parent

OURS = """
import io, json, os, sys, time
from pathlib import Path
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import Entry, Signed
from engine.store.objects import ObjectStore
home = Path(sys.argv[1])
lake = EmbeddedLake(home / "lake", ObjectStore(home / "objects"))
if not lake.repositories():
    lake.create_repository("repo")
seen = {}
def timed(name, act):
    started = time.perf_counter(); found = act(); seen[name] = time.perf_counter() - started
    return found
"""
OURS_SMALL = (
    OURS
    + """
def put():
    lake.put_folder("repo", "main", "data/", Path("data"), commit=Signed(message="m"))
timed("10,000 new small files", put)
timed("nothing changed", put)
Path("data/05000.txt").write_bytes(os.urandom(3000))
timed("one of 10,000 changed", put)
print(json.dumps(seen))
"""
)
FLOOR = """
import hashlib, json, os, time
started = time.perf_counter()
with open("floor", "wb", buffering=1 << 20) as pack:
    for entry in sorted(os.scandir("data"), key=lambda entry: entry.name):
        with open(entry.path, "rb") as stream:
            data = stream.read()
        hashlib.sha256(data).hexdigest()
        pack.write(data)
    pack.flush()
    os.fsync(pack.fileno())
print(json.dumps({"10,000 new small files": time.perf_counter() - started}))
"""
DVC_SMALL = """
import json, os, time
from dvc.repo import Repo
seen = {}
repo = Repo(".")
for name in ("10,000 new small files", "nothing changed", "one of 10,000 changed"):
    if name.startswith("one"):
        open("data/05000.txt", "wb").write(os.urandom(3000))
    started = time.perf_counter(); repo.add("data"); seen[name] = time.perf_counter() - started
print(json.dumps(seen))
"""
OURS_LARGE = (
    OURS
    + """
def put():
    lake.put("repo", "main", "big", Path("big"))
    lake.commit("repo", "main", "m")
timed("1 GiB file, first commit", put)
lake.put("repo", "main", "big", io.BytesIO(b"another version"))
lake.commit("repo", "main", "m")
timed("open 1 GiB at an old commit", lambda: lake.map("repo", "main~1", "big")[1 << 29])
seen["have the 1 GiB of an old commit in the folder"] = seen["open 1 GiB at an old commit"]  # nobody needs a copy
print(json.dumps(seen))
"""
)
DVC_LARGE = """
import json, subprocess, time
import dvc.api
from dvc.repo import Repo
who = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
def git(*words): subprocess.run(["git", *who, *words], check=True, stdout=subprocess.DEVNULL)
seen = {}
repo = Repo(".")
started = time.perf_counter(); repo.add("big"); seen["1 GiB file, first commit"] = time.perf_counter() - started
git("add", "."); git("commit", "-q", "-m", "1")
import os; os.remove("big"); open("big", "wb").write(b"another version")
repo.add("big")
git("add", "."); git("commit", "-q", "-m", "2")
started = time.perf_counter()
with dvc.api.open("big", rev="HEAD~1", mode="rb") as stream:
    stream.seek(1 << 29); stream.read(1)
seen["open 1 GiB at an old commit"] = time.perf_counter() - started
started = time.perf_counter(); subprocess.run(["git", "checkout", "-q", "HEAD~1"], check=True); repo.checkout()
seen["have the 1 GiB of an old commit in the folder"] = time.perf_counter() - started
print(json.dumps(seen))
"""
OURS_MILLION = (
    OURS
    + """
import re
digest = lake.put("repo", "main", "x", io.BytesIO(b"x")).digest
if sys.argv[2] == "build":
    for start in range(0, 1_000_000, 100_000):
        numbers = range(start, start + 100_000)
        rows = (Entry(path=f"{n // 1000:04}/{n:07}", digest=digest, size=1, time=1) for n in numbers)
        lake.stage("repo", "main", *rows)
        lake.commit("repo", "main", str(start))
else:
    def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    before = peak()
    lake.put("repo", "main", "0500/0500500", io.BytesIO(os.urandom(9)))
    timed("one of 1,000,000 objects changed, commit", lambda: lake.commit("repo", "main", "m"))
    seen["KiB more"] = peak() - before
print(json.dumps(seen))
"""
)


CLIENTS = """
import io, json, os, re, sys, time
from pathlib import Path
import lakefs_client
from lakefs_client.client import LakeFSClient
from engine.lake.credentials import Credentials
from engine.lake.lakefs import Server
from engine.lake.protocol import Signed
from engine.lake.remote import RemoteLake
from engine.store.objects import ObjectStore
said = json.loads(sys.argv[1])
credentials = Credentials(**said)
lake = RemoteLake(Server(credentials), ObjectStore(Path(".client/objects")), Path(".client/cache"))
configuration = lakefs_client.Configuration(
    host=credentials.endpoint + "/api/v1", username=credentials.access_key_id, password=credentials.secret_access_key
)
client = LakeFSClient(configuration)
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
seen = {}
"""
LIST = (
    CLIENTS
    + """
lake.create_repository("list")
Path("many").mkdir()
for number in range(1000):
    Path(f"many/{number:04}").write_bytes(b"x")
lake.put_folder("list", "main", "many/", Path("many"), commit=Signed(message="m"))
PICKS = (("", lambda times: sorted(times)[len(times) // 2]), (", fastest", min))
def ours(): return sum(1 for _ in lake.list("list", "main", "many/"))
def typed(): return len(client.objects_api.list_objects("list", "main", prefix="many/", amount=1000).results)
for name, act in (("engine", ours), ("lakefs-client, typed", typed)) * 11:
    started = time.perf_counter()
    assert act() == 1000
    seen.setdefault(name, []).append(time.perf_counter() - started)
print(json.dumps({f"{name}{word}": pick(times) for name, times in seen.items() for word, pick in PICKS}))
"""
)
UP_AND_DOWN = (
    CLIENTS
    + """
side = sys.argv[2]
if side == "engine":
    lake.create_repository("engine")
    list(lake.list("engine", "main"))
    before = peak(); started = time.perf_counter()
    lake.put("engine", "main", "big", Path("big"))
    seen["1 GiB up"] = time.perf_counter() - started; seen["MiB more, up"] = (peak() - before) / 1024
    started = time.perf_counter()
    with lake.open("engine", "main", "big") as stream:
        while stream.read(1 << 20): pass
    seen["1 GiB down"] = time.perf_counter() - started
else:
    client.repositories_api.create_repository(
        lakefs_client.model.repository_creation.RepositoryCreation(name="peer", storage_namespace="local://peer")
    )
    before = peak(); started = time.perf_counter()
    with open("big", "rb") as stream:
        client.objects_api.upload_object("peer", "main", "big", content=stream)
    seen["1 GiB up"] = time.perf_counter() - started; seen["MiB more, up"] = (peak() - before) / 1024
    started = time.perf_counter()
    client.objects_api.get_object("peer", "main", "big").read(1)
    seen["1 GiB down"] = time.perf_counter() - started
seen["MiB more, up and down"] = (peak() - before) / 1024
print(json.dumps(seen))
"""
)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """`engine lake serve` in a folder: what it says of itself as JSON, and its process."""
    (folder / ".engine").mkdir()
    words = [str(BIN / "engine"), "lake", "serve", "--port", "0", "--json"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True, env=quiet_environment()) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline(), process.pid
        finally:
            process.terminate()


def server(_: int) -> None:
    """Through a server on this machine."""
    with scratch() as base, served(base) as (said, pid):
        found = answer(sys.executable, LIST, said, cwd=base)
        print("\nlist 1,000 objects of a server  (medians of 11, in turn)")
        ratios = [found[f"lakefs-client, typed{word}"] / found[f"engine{word}"] for word in ("", ", fastest")]
        for side, seconds in found.items():
            print(f"    {side:<32} {seconds * 1000:8.2f} ms")
        print(f"    {ratios[0]:.1f}x, fastest {ratios[1]:.1f}x   promised 8x")
        make_large(base / "big")
        print("\n1 GiB up and down  (promised: under 32 MiB more memory)")
        for side in ("engine", "lakefs-client"):
            seen = answer(sys.executable, UP_AND_DOWN, said, side, cwd=base)
            print(f"    {side:<16} " + ", ".join(f"{name} {value:.2f}" for name, value in seen.items()))
        status = Path(f"/proc/{pid}/status").read_text()
        print("    the server       " + next(line for line in status.splitlines() if line.startswith("VmHWM")))


def make_files(folder: Path) -> None:
    """10,000 files of 2 to 6 KiB, the same each time."""
    folder.mkdir(parents=True)
    chance = random.Random(1)
    for number in range(FILES):
        (folder / f"{number:05}.txt").write_bytes(chance.randbytes(2048 + chance.randrange(4096)))


def make_large(path: Path) -> None:
    """1 GiB that no file system can shrink."""
    chance = random.Random(1)
    with path.open("wb") as stream:
        for _ in range(GIB >> 22):
            stream.write(chance.randbytes(1 << 22))
        stream.flush()
        os.fsync(stream.fileno())


def dvc_project(folder: Path, dvc: Path, *, git: bool) -> None:
    """An empty DVC project."""
    if git:
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    command(dvc, "init", "-q", *([] if git else ["--no-scm"]), cwd=folder)


def small(rounds: int) -> None:
    """Many small files."""
    python = environment("dvc", *DVC)
    dvc = python.parent / "dvc"
    table = Table("small files")
    with scratch() as base:
        make_files(base / "files")
        for number, side in alternate(["engine", "dvc", "read+hash+append+fsync"], rounds):
            place = base / f"{side[:4]}{number}"
            shutil.copytree(base / "files", place / "data")
            os.sync()
            if side == "engine":
                table.add(side, answer(sys.executable, OURS_SMALL, ".home", cwd=place), " (work)")
            elif side == "dvc":
                dvc_project(place, dvc, git=False)
                table.add(side, answer(python, DVC_SMALL, cwd=place), " (work)")
            else:
                table.add(side, answer(sys.executable, FLOOR, cwd=place), " (work)")
            shutil.rmtree(place)
        for number, side in alternate(["engine", "dvc"], rounds):
            place = base / f"c{side}{number}"
            shutil.copytree(base / "files", place / "data")
            os.sync()
            if side == "dvc":
                dvc_project(place, dvc, git=False)
                words: list[object] = [dvc, "add", "-q", "data"]
            else:
                (place / ".engine").mkdir()
                command(BIN / "engine", "lake", "repos", "create", "repo", cwd=place)
                words = [BIN / "engine", "lake", "put", "data", "lakefs://repo/main/data/", "--commit", "-m", "m"]
            for work in ("10,000 new small files", "nothing changed", "one of 10,000 changed"):
                if work.startswith("one"):
                    (place / "data" / "05000.txt").write_bytes(os.urandom(3000))
                table.add(side, {work: command(*words, cwd=place)}, " (command)")
            shutil.rmtree(place)
    promised = {"10,000 new small files": 9, "nothing changed": 17, "one of 10,000 changed": 25}
    table.show({f"{work} ({how})": ratio for work, ratio in promised.items() for how in ("work", "command")})


def large(rounds: int) -> None:
    """One file of 1 GiB."""
    python = environment("dvc", *DVC)
    table = Table("1 GiB")
    with scratch() as base:
        make_large(base / "big")
        for number, side in alternate(["engine", "dvc"], rounds):
            place = base / f"{side}{number}"
            place.mkdir()
            shutil.copy(base / "big", place / "big")
            os.sync()
            if side == "engine":
                table.add(side, answer(sys.executable, OURS_LARGE, ".home", cwd=place))
            else:
                dvc_project(place, python.parent / "dvc", git=True)
                table.add(side, answer(python, DVC_LARGE, cwd=place))
            shutil.rmtree(place)
    table.show(
        {
            "1 GiB file, first commit": 3,
            "open 1 GiB at an old commit": 500,
            "have the 1 GiB of an old commit in the folder": 500,
        }
    )


def million(rounds: int) -> None:
    """A repository of a million objects."""
    with scratch() as base:
        answer(sys.executable, OURS_MILLION, ".home", "build", cwd=base)
        print("\none of 1,000,000 objects changed, commit  (promised: under 50 ms)")
        for _ in range(rounds):
            found = answer(sys.executable, OURS_MILLION, ".home", "change", cwd=base)
            seconds = found["one of 1,000,000 objects changed, commit"]
            print(f"    {seconds * 1000:.1f} ms, {found['KiB more']:.0f} KiB more memory")


PARTS = {"small": small, "large": large, "server": server, "million": million}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=sorted(PARTS))
    given = parser.parse_args()
    compile_ours()
    for name, part in PARTS.items():
        if given.only in (None, name):
            part(given.rounds)


if __name__ == "__main__":
    main()

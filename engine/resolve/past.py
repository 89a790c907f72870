"""The project as it was at a git ref: its specs and sources laid out in a folder, to be read and never to be run.

Blobs are read as git has them. No hook, no filter and no attribute of the repository or of that commit has a say in
it, nothing is fetched, and what is not a plain file of a kind that a plan reads is left out.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engine.errors import Failed, NotFound, UsageError, writing
from engine.resolve.closure import SourceIndex

KINDS = (".py", ".yaml", ".yml", ".json", ".toml")
"""What a plan is made from: sources, specs, schemas."""

LARGEST = 4_000_000
PLAIN_FILES = (b"100644", b"100755", b"100664")
SECONDS = 60
QUIET = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}
"""What keeps git from writing, asking and fetching, and its messages in English."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """A commit of the repository whose top folder is ``top``, and the ref that it was asked for by."""

    ref: str
    id: str
    top: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A file of a commit: its path from the top, and git's name of its bytes."""

    path: str
    id: str


def commit_at(root: Path, ref: str) -> Commit:
    """The commit that ``ref`` names in the repository round ``root``.

    Raises:
        UsageError: when there is no git, or no repository.
        NotFound: when the ref names no commit; with the nearest branch or tag.
    """
    top = asked(root, "rev-parse", "--show-toplevel")
    if top.returncode != 0:
        raise not_a_repository(root, top)
    found = asked(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found.returncode != 0 or not ref:
        names = asked(root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags")
        known = names.stdout.decode("utf-8", "replace").split()
        hint = "" if known else "there is no commit yet"
        if "/" in ref and ref not in known:
            hint = f"fetch it first: git fetch {ref.replace('/', ' ', 1)} (CI often fetches one commit only)"
        raise NotFound("git ref", ref, known, place="--against", hint=hint)
    return Commit(ref=ref, id=found.stdout.decode().strip(), top=Path(os.fsdecode(top.stdout.rstrip(b"\n"))))


def not_a_repository(root: Path, done: subprocess.CompletedProcess[bytes]) -> UsageError:
    """Why git does not know a folder, in its own words where it has any."""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    fact = said[0].removeprefix("fatal: ") if said else "git knows no repository here"
    return UsageError(fact, place=f"--against {root}", hint="plan without --against, or begin with `git init`")


def asked(root: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """What a git command that only reads says.

    Raises:
        UsageError: when there is no git.
        Failed: when it does not answer in time.
    """
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    try:
        return subprocess.run(  # noqa: S603
            command, input=given, capture_output=True, timeout=SECONDS, check=False, env={**os.environ, **QUIET}
        )
    except OSError as error:
        raise UsageError("git cannot be run", place="--against", hint="install git") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"git did not answer in {SECONDS} seconds", place="--against") from error


def lay_out_commit(commit: Commit, folder: Path) -> None:
    """Write the specs and sources of a commit below ``folder``.

    Raises:
        Failed: when git cannot read them.
        StorageFull, StorageUnwritable: when the disk says so.
    """
    blobs = list(blobs_of(commit))
    with writing(folder):
        for blob, data in zip(blobs, contents(commit, blobs), strict=True):
            path = folder / blob.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def blobs_of(commit: Commit) -> Iterator[Blob]:
    """The plain files of a commit that a plan may read. One that would lie outside of a folder is left out."""
    listed = asked(commit.top, "ls-tree", "-r", "-z", "-l", "--full-tree", commit.id)
    if listed.returncode != 0:
        raise unreadable(commit, listed)
    for entry in listed.stdout.split(b"\0"):
        head, _, name = entry.partition(b"\t")
        fields = head.split()
        if len(fields) != 4 or fields[0] not in PLAIN_FILES or not fields[3].isdigit():
            continue
        path = os.fsdecode(name)
        if path.endswith(KINDS) and int(fields[3]) <= LARGEST and stays_inside(path):
            yield Blob(path=path, id=fields[2].decode())


def stays_inside(path: str) -> bool:
    """Whether a path of a commit lies below the folder that it is put in, and is not git's own."""
    parts = PurePosixPath(path).parts
    return not path.startswith("/") and not {"..", "."} & set(parts) and ".git" not in map(str.lower, parts)


def contents(commit: Commit, blobs: Sequence[Blob]) -> Iterator[bytes]:
    """The bytes of each of some blobs."""
    done = asked(commit.top, "cat-file", "--batch", given="".join(f"{blob.id}\n" for blob in blobs).encode())
    if done.returncode != 0:
        raise unreadable(commit, done)
    at = 0
    for blob in blobs:
        end = done.stdout.index(b"\n", at)
        fields = done.stdout[at:end].split()
        if len(fields) != 3:
            raise Failed(f"git does not have {blob.path} of {commit.ref}", place="--against", hint="git fetch")
        size = int(fields[2])
        yield done.stdout[end + 1 : end + 1 + size]
        at = end + size + 2


def unreadable(commit: Commit, done: subprocess.CompletedProcess[bytes]) -> Failed:
    """Git's complaint about a commit that it has."""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["git cannot read it"]
    return Failed(f"{commit.ref}: {said[0].removeprefix('fatal: ')}", place="--against", hint="git fsck")


class PastIndex(SourceIndex):
    """What source files import, where those of the repository are the ones that were laid out in ``folder``."""

    def __init__(self, roots: tuple[Path, ...], folder: Path, top: Path) -> None:
        super().__init__(roots)
        self.folder = folder
        self.top = top

    def path(self, module: str) -> Path | None:
        """The source file of a module, as it was; none for one that there was not yet."""
        found = super().path(module)
        if found is None or found.is_relative_to(self.folder) or "site-packages" in found.parts:
            return found
        whole = found.resolve()
        if not whole.is_relative_to(self.top):
            return found
        then = self.folder / whole.relative_to(self.top)
        return then if then.is_file() else None

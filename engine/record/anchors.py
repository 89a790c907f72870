"""The ledger's last hash, written down outside the registry: who rewrites the whole file is found all the same.

::

    registry.db: entry 1 <- entry 2 <- ... <- entry N
                                               |
         git notes (refs/notes/engine) <-------+-------> a commit on the branch ``engine-anchors`` of the data's lake

An anchor says which registry it is about by the home's own key, so that one repository may serve several homes.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from engine.errors import EngineError
from engine.lake.protocol import Commit, Lake, RefNotFound, RefTaken
from engine.registry.model import Head, LedgerEntry
from engine.resolve.git import git
from engine.steps.seals import home_key

NOTES = "engine"
BRANCH = "engine-anchors"
AUTHOR = "engine"
ID_LENGTH = 16
LINE = re.compile(r"ledger entry (\d+) sha256:([0-9a-f]{64}) of registry ([0-9a-f]{16})$")
NAMELESS = ("-c", "user.name=engine", "-c", "user.email=engine@localhost")
"""Who writes a note where git does not know who works there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """That the ledger had this head, and where that is written."""

    head: Head
    place: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Harbour:
    """Where anchors are written and found: the project's git repository, and the lake. ``home`` has the key."""

    home: Path
    root: Path
    lake: Lake

    @property
    def registry_id(self) -> str:
        """What anchors call this home's registry."""
        return hmac.new(home_key(self.home), b"registry", sha256).hexdigest()[:ID_LENGTH]

    def line(self, what: str, head: Head) -> str:
        """What an anchor says."""
        return f"{what}; ledger entry {head.number} sha256:{head.digest} of registry {self.registry_id}"


# -- writing ------------------------------------------------------------------------------------------------------


def anchor(harbour: Harbour, what: str, head: Head, repository: str) -> tuple[list[str], list[str]]:
    """Write down outside that the ledger has this head.

    Args:
        what: what happened, for a person.
        repository: the lake's repository to write it to; none when empty.

    Returns:
        the places where it stands now, and why it does not stand in others.
    """
    done: list[str] = []
    undone: list[str] = []
    if is_in_git(harbour.root):
        place = f"git notes --ref={NOTES}"
        (done if write_note(harbour, what, head) else undone).append(place)
    if repository:
        place = f"lakefs://{repository}/{BRANCH}"
        try:
            commit = write_commit(harbour, what, head, repository)
        except EngineError as error:
            undone.append(f"{place}: {error.fact}")
        else:
            done.append(f"{place} {commit.id[:12]}")
    return done, undone


def is_in_git(root: Path) -> bool:
    """Whether a project is in a git repository; git itself is not asked, as that costs more than all the rest."""
    return any((folder / ".git").exists() for folder in (root, *root.parents))


def write_note(harbour: Harbour, what: str, head: Head) -> bool:
    """Add a line to the note on the commit that is checked out; tell whether that could be done."""
    words = ("notes", f"--ref={NOTES}", "append", "-m", harbour.line(what, head), "HEAD")
    return git(harbour.root, *words) is not None or git(harbour.root, *NAMELESS, *words) is not None


def write_commit(harbour: Harbour, what: str, head: Head, repository: str) -> Commit:
    """Commit nothing but the anchor to a branch of its own, which begins where the repository does.

    Raises:
        EngineError: when the lake does not take it.
    """
    lake = harbour.lake
    metadata = {
        "engine_registry": harbour.registry_id,
        "engine_entry": str(head.number),
        "engine_digest": f"sha256:{head.digest}",
    }
    message = harbour.line(what, head)
    try:
        return lake.commit(repository, BRANCH, message, author=AUTHOR, metadata=metadata, allow_empty=True)
    except RefNotFound:
        with suppress(RefTaken):
            lake.create_branch(repository, BRANCH, first_commit(lake, repository))
        return lake.commit(repository, BRANCH, message, author=AUTHOR, metadata=metadata, allow_empty=True)


def first_commit(lake: Lake, repository: str) -> str:
    """Where a repository begins."""
    default = next(item.default_branch for item in lake.repositories() if item.name == repository)
    *_, first = lake.log(repository, default, first_parent=True)
    return first.id


# -- finding ------------------------------------------------------------------------------------------------------


def anchors(harbour: Harbour) -> Iterator[Anchor]:
    """Every anchor of this home's registry that can be found.

    Raises:
        LakeUnavailable, LakeDenied: when the lake's server does not answer.
    """
    if not (harbour.home / "home.key").is_file():
        return
    if is_in_git(harbour.root):
        yield from notes(harbour)
    for repository in harbour.lake.repositories():
        yield from commits(harbour, repository.name)


def notes(harbour: Harbour) -> Iterator[Anchor]:
    """The anchors in git."""
    words = ("grep", "-h", "-I", "--fixed-strings", f"of registry {harbour.registry_id}", f"refs/notes/{NOTES}")
    for line in (git(harbour.root, *words, "--", ":/") or "").splitlines():
        yield from read(line, harbour, f"git notes --ref={NOTES}")


def commits(harbour: Harbour, repository: str) -> Iterator[Anchor]:
    """The anchors in a repository of the lake."""
    with suppress(RefNotFound):
        for commit in harbour.lake.log(repository, BRANCH, first_parent=True):
            if "engine_registry" in commit.metadata:
                yield from read(commit.message, harbour, f"lakefs://{repository}/{BRANCH} {commit.id[:12]}")


def read(line: str, harbour: Harbour, place: str) -> Iterator[Anchor]:
    """The anchor that a line is, if it is one of this home's registry."""
    found = LINE.search(line)
    if found and found[3] == harbour.registry_id:
        yield Anchor(head=Head(number=int(found[1]), digest=found[2]), place=place)


def broken(found: Iterable[Anchor], entries: list[LedgerEntry]) -> Iterator[tuple[Anchor, str]]:
    """Anchors that do not hold the ledger, and why not. Pure."""
    for item in found:
        number = item.head.number
        if number > len(entries):
            yield item, f"it says that the ledger has an entry {number}; it ends with {len(entries)}"
        elif entries[number - 1].digest != item.head.digest:
            yield item, f"it says that the ledger's entry {number} is {item.head.digest[:12]}; it is another"

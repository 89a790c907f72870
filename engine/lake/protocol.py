"""The one ``Lake`` protocol, its values and its errors. Semantics are lakeFS's.

::

    repository --has--> branches, tags ---name---> commits --hold--> entries (path -> object)
                            |                         |
                            `-- staged changes --commit, merge, revert, cherry_pick--> a new commit
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from engine.errors import AlreadyExists, Failed, NotFound, Refused, UsageError, suggestion

DEFAULT_BRANCH = "main"
Change = Literal["added", "removed", "changed", "conflict"]
Strategy = Literal["", "dest-wins", "source-wins"]
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A repository, the branch that it was created with, and when, in Unix seconds."""

    name: str
    default_branch: str = DEFAULT_BRANCH
    time: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """A commit: 64 hexadecimal digits, its parents, and what its author said. ``time`` is in Unix seconds."""

    id: str
    parents: tuple[str, ...]
    message: str
    author: str
    time: int
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An object at a path, or with ``is_prefix`` all objects that begin with ``path``.

    Attributes:
        digest: the SHA-256 of the bytes; empty where a remote lake's object was not fetched yet.
        size: the number of bytes.
        time: when the object came to this path, in Unix seconds.
        checksum: what the lake itself says of the bytes. Opaque: equal means equal, and nothing else.
        metadata: what its user wrote on it.
    """

    path: str
    digest: str = ""
    size: int = 0
    time: int = 0
    checksum: str = ""
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_prefix: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A path at which two versions differ; ``size`` is that of the object on the right, or of the one removed."""

    path: str
    change: Change
    size: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """Who makes a commit and what they say. Without ``time`` (Unix seconds) it is now."""

    message: str
    author: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    time: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """What putting a folder did.

    Attributes:
        files: how many there are in the folder, of ``size`` bytes together.
        read: how many of them had to be read; the others were as they were at the last time.
        changes: how many paths were staged.
        commit: what was committed, if that was asked for and anything changed.
    """

    files: int
    size: int
    read: int
    changes: int
    commit: Commit | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Something in a lake that is not what was stored: which kind of thing, which one, and what is wrong with it."""

    what: str
    name: str
    fact: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """What was removed because nothing names it any more: how many commits and objects, and their bytes."""

    commits: int
    objects: int
    size: int


class RepositoryNotFound(NotFound):
    """There is no such repository."""

    code = "repository-not-found"


class RefNotFound(NotFound):
    """No branch, tag or commit has that name."""

    code = "ref-not-found"


class ObjectNotFound(NotFound):
    """No object is at that path."""

    code = "object-not-found"


class RefTaken(AlreadyExists):
    """A branch, tag or repository of that name is there already."""

    code = "ref-taken"


class NothingToCommit(UsageError):
    """A commit, merge, revert or cherry-pick would change nothing."""

    code = "nothing-to-commit"


class BranchMoved(UsageError):
    """Somebody else committed to the branch first."""

    code = "branch-moved"


class DirtyBranch(UsageError):
    """A branch has staged changes where it must have none."""

    code = "dirty-branch"

    def __init__(self, repository: str, branch: str) -> None:
        hint = "commit them, or drop them with `engine lake reset`"
        super().__init__(f"lakefs://{repository}/{branch} has uncommitted changes", hint=hint)


class MergeConflict(Refused):
    """Both sides changed the same paths since they parted; ``paths`` are some of them (a remote lake may give none)."""

    code = "merge-conflict"

    def __init__(self, source: str, destination: str, paths: Iterable[str] = ()) -> None:
        self.paths = tuple(paths)
        what = f" in {suggestion('', self.paths, most=5).removeprefix('known: ')}" if self.paths else ""
        hint = "choose --strategy source-wins or dest-wins, or bring the sides together first"
        super().__init__(f"{source} and {destination} conflict{what}", hint=hint)


class HookRefused(Refused):
    """A ``pre-`` hook said no; nothing was changed."""

    code = "hook-refused"


class NotSupported(UsageError):
    """This kind of lake does not do that."""

    code = "not-supported"


class LakeDenied(Failed):
    """A lake server does not accept the credentials, or does not allow what was asked."""

    code = "lake-denied"


class Lake(Protocol):
    """Versioned objects.

    A ref is a branch, a tag, a commit id or a unique prefix of one, followed by any of ``~N`` (N generations back),
    ``^N`` (the Nth parent), ``@`` (of a branch: committed only) and ``$`` (of a branch: with what is staged). A plain
    branch is read with its staged changes. Every method raises :class:`RepositoryNotFound` and :class:`RefNotFound`
    where it applies, :class:`~engine.errors.UsageError` for a name or path that breaks the rules, and
    :class:`~engine.errors.LakeUnavailable` and :class:`LakeDenied` where a server is behind it.
    """

    def repositories(self) -> list[Repository]:
        """All repositories by name."""

    def create_repository(self, name: str, default_branch: str = DEFAULT_BRANCH) -> Repository:
        """A new repository with an empty first commit.

        Raises:
            RefTaken: when there is one of that name.
        """

    def delete_repository(self, name: str) -> None:
        """Forget a repository and its refs; its objects go with the next :meth:`gc`."""

    # -- refs -----------------------------------------------------------------------------------------

    def resolve(self, repository: str, ref: str) -> str:
        """The full id of the commit that ``ref`` means now."""

    def branches(self, repository: str) -> dict[str, str]:
        """Branch names, sorted, and their commits."""

    def create_branch(self, repository: str, name: str, source: str) -> str:
        """A new branch at ``source``; its commit.

        Raises:
            RefTaken: when there is one of that name.
        """

    def delete_branch(self, repository: str, name: str) -> None:
        """Forget a branch and what is staged on it.

        Raises:
            UsageError: for the repository's default branch.
        """

    def tags(self, repository: str) -> dict[str, str]:
        """Tag names, sorted, and their commits."""

    def create_tag(self, repository: str, name: str, ref: str) -> str:
        """A new tag at ``ref``; its commit.

        Raises:
            RefTaken: when there is one of that name.
        """

    def delete_tag(self, repository: str, name: str) -> None:
        """Forget a tag."""

    # -- reading --------------------------------------------------------------------------------------

    def list(
        self, repository: str, ref: str, prefix: str = "", *, after: str = "", delimiter: str = ""
    ) -> Iterator[Entry]:
        """The objects whose paths begin with ``prefix``, by path (in the order of UTF-8 bytes), read as they are taken.

        Args:
            after: begin behind this path.
            delimiter: give all objects that go on with it after ``prefix`` as one entry, with ``is_prefix``.
        """

    def stat(self, repository: str, ref: str, path: str) -> Entry:
        """One object.

        Raises:
            ObjectNotFound: when it is not there.
        """

    def open(self, repository: str, ref: str, path: str) -> BinaryIO:
        """An object's bytes as a stream, in bounded memory.

        Raises:
            ObjectNotFound: when it is not there.
            DigestMismatch: here or while it is read to its end, when the bytes were altered.
        """

    def map(self, repository: str, ref: str, path: str) -> memoryview:
        """An object's bytes in memory; of a local lake's large object they are mapped, neither copied nor all hashed.

        Raises:
            ObjectNotFound: when it is not there.
            DigestMismatch: when the file's size or seal says that the bytes were altered.
        """

    def fetch(self, repository: str, commit: str, entry: Entry) -> Entry:
        """``entry`` with its digest; its bytes are in the local store afterwards.

        Args:
            commit: a full commit id, at which ``entry`` was listed.
        """

    # -- staging --------------------------------------------------------------------------------------

    def put(
        self,
        repository: str,
        branch: str,
        path: str,
        data: BinaryIO | Path,
        *,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        time: int | None = None,
    ) -> Entry:
        """Stage an object, streamed in bounded memory.

        Raises:
            UsageError: for a path that is empty, longer than 1024 bytes or no text, and a file that cannot be read.
        """

    def put_folder(
        self,
        repository: str,
        branch: str,
        prefix: str,
        folder: Path,
        *,
        delete: bool = False,
        commit: Signed | None = None,
        progress: Progress | None = None,
    ) -> Upload:
        """Stage every file below ``folder`` as ``prefix`` + its relative path, and commit it all when asked.

        Files that did not change since the last time are not read. Symbolic links to files are followed.

        Args:
            delete: also stage the removal of objects below ``prefix`` that have no file.
            progress: is told of the bytes done, each time how many more.

        Raises:
            UsageError: for a folder that is not there or a file in it that cannot be read; nothing is staged then.
        """

    def delete(self, repository: str, branch: str, path: str) -> None:
        """Stage the removal of an object.

        Raises:
            ObjectNotFound: when it is not there.
        """

    def changes(self, repository: str, branch: str, prefix: str = "", *, after: str = "") -> Iterator[Difference]:
        """What is staged on a branch, by path: added, changed or removed."""

    def reset(self, repository: str, branch: str, path: str = "") -> None:
        """Drop what is staged: at a path, below one that ends in ``/``, or, when it is empty, everywhere."""

    # -- history --------------------------------------------------------------------------------------

    def commit(
        self,
        repository: str,
        branch: str,
        message: str,
        *,
        author: str = "",
        metadata: Mapping[str, str] | None = None,
        time: int | None = None,
        parent: str | None = None,
        allow_empty: bool = False,
    ) -> Commit:
        """Commit what is staged on a branch.

        Args:
            parent: the commit that the branch must still be at.

        Raises:
            NothingToCommit: when nothing is.
            BranchMoved: when the branch is not at ``parent``.
            HookRefused: when a ``pre-commit`` hook says no.
        """

    def log(self, repository: str, ref: str, *, first_parent: bool = False) -> Iterator[Commit]:
        """A commit and all that it came from, the newest first; with ``first_parent`` only along first parents."""

    def diff(
        self, repository: str, left: str, right: str, prefix: str = "", *, after: str = "", two_dot: bool = False
    ) -> Iterator[Difference]:
        """What ``right`` changed, by path: since it parted from ``left`` (three-dot), or compared with it (two-dot).

        In a three-dot diff a path that ``left`` also changed, to something else, is a ``conflict``.
        """

    def merge(
        self, repository: str, source: str, destination: str, signed: Signed, *, strategy: Strategy = ""
    ) -> Commit:
        """Bring what ``source`` changed since the sides parted to the branch ``destination``.

        Raises:
            MergeConflict: when both changed a path and no strategy says whose change wins.
            DirtyBranch: when the destination has staged changes.
            NothingToCommit: when the source has nothing that is new there.
            HookRefused: when a ``pre-merge`` hook says no.
        """

    def revert(self, repository: str, branch: str, ref: str, signed: Signed, *, parent: int = 0) -> Commit:
        """Undo on a branch what the commit ``ref`` did against its parent number ``parent`` (from 1; 0: its only one).

        Raises:
            MergeConflict: when something later changed the same paths.
            DirtyBranch: when the branch has staged changes.
            UsageError: for a merge commit without a parent number.
        """

    def cherry_pick(self, repository: str, branch: str, ref: str, signed: Signed, *, parent: int = 0) -> Commit:
        """Do on a branch what the commit ``ref`` did against its parent; an empty message takes over its own.

        Raises:
            MergeConflict, DirtyBranch, UsageError: as for :meth:`revert`.
        """

    # -- upkeep ---------------------------------------------------------------------------------------

    def gc(self, pins: Iterable[str] = (), *, older_than: float = 3600.0) -> Swept:
        """Remove the commits and objects that no branch, tag or staged change leads to, and no pin.

        Args:
            pins: digests of objects and ids of commits that are kept whatever names them.
            older_than: spare what came in this many seconds ago, as somebody may be about to name it.

        Raises:
            NotSupported: by a server, which collects its own garbage.
        """

    def fsck(self, progress: Progress | None = None) -> Iterator[Damage]:
        """Hash everything that the lake holds and give what is not as it was stored."""

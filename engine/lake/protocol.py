"""The one ``Lake`` protocol, its values and its errors. Semantics are lakeFS's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from engine.errors import AlreadyExists, NotFound, UsageError

DEFAULT_BRANCH = "main"


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A repository and the branch that it was created with."""

    name: str
    default_branch: str = DEFAULT_BRANCH


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
    """An object at a path: the SHA-256 of its bytes and their number."""

    path: str
    digest: str
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
    """A commit would change nothing."""

    code = "nothing-to-commit"


class BranchMoved(UsageError):
    """Somebody else committed to the branch first."""

    code = "branch-moved"


class Lake(Protocol):
    """Versioned objects.

    A ref is a branch, a tag, a commit id or a unique prefix of one, followed by any of ``~N`` (N generations back),
    ``^N`` (the Nth parent) and ``@`` (of a branch: committed only). A plain branch is read with its staged changes.
    Every method raises :class:`RepositoryNotFound` and :class:`RefNotFound` where it applies.
    """

    def repositories(self) -> list[Repository]:
        """All repositories by name."""

    def create_repository(self, name: str, default_branch: str = DEFAULT_BRANCH) -> Repository:
        """A new repository with an empty first commit.

        Raises:
            RefTaken: when there is one of that name.
        """

    def resolve(self, repository: str, ref: str) -> str:
        """The full id of the commit that ``ref`` means now."""

    def branches(self, repository: str) -> dict[str, str]:
        """Branch names and their commits."""

    def create_branch(self, repository: str, name: str, source: str) -> str:
        """A new branch at ``source``; its commit."""

    def tags(self, repository: str) -> dict[str, str]:
        """Tag names and their commits."""

    def create_tag(self, repository: str, name: str, ref: str) -> str:
        """A new tag at ``ref``; its commit."""

    def list(self, repository: str, ref: str, prefix: str = "") -> Iterator[Entry]:
        """The objects whose paths begin with ``prefix``, by path."""

    def stat(self, repository: str, ref: str, path: str) -> Entry:
        """One object.

        Raises:
            ObjectNotFound: when it is not there.
        """

    def open(self, repository: str, ref: str, path: str) -> BinaryIO:
        """An object's bytes as a stream.

        Raises:
            ObjectNotFound: when it is not there.
        """

    def local_path(self, entry: Entry) -> Path:
        """An immutable local file with an object's bytes; of a local lake the object itself, nothing is copied."""

    def put(self, repository: str, branch: str, path: str, data: BinaryIO | Path) -> Entry:
        """Stage an object.

        Raises:
            UsageError: for a path that is empty, longer than 1024 bytes or no text, and a file that cannot be read.
        """

    def delete(self, repository: str, branch: str, path: str) -> None:
        """Stage the removal of an object.

        Raises:
            ObjectNotFound: when it is not there.
        """

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
    ) -> Commit:
        """Commit what is staged on a branch.

        Args:
            parent: the commit that the branch must still be at.

        Raises:
            NothingToCommit: when nothing is.
            BranchMoved: when the branch is not at ``parent``.
        """

    def log(self, repository: str, ref: str) -> Iterator[Commit]:
        """A commit and its first parents, the newest first."""

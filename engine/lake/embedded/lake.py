"""The embedded lake. Several processes and threads may use one at once; a branch moves in a transaction, by one writer.

::

    lake/lake.db    repositories, branches, tags, commits, staged changes and the nodes of trees
    lake/looks/     what files of folders that were put looked like, so that they need not be read again
    objects/        the bytes, by SHA-256, shared with everything else in the Engine home
"""

from __future__ import annotations

import builtins
import sqlite3
import time as clock
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from engine.errors import AlreadyExists, NotFound, UsageError
from engine.lake.embedded import tree, upkeep
from engine.lake.embedded.book import END, SCHEMA, Book, Kind, Stored, read_node, require_version
from engine.lake.embedded.folder import put_folder
from engine.lake.embedded.history import ThreeWay, ancestors, decided, first_parents, merge_base, three_way
from engine.lake.embedded.names import (
    require_branch_name,
    require_path,
    require_repository_name,
    require_tag_name,
    require_text,
)
from engine.lake.embedded.tree import Change, Changes, Row
from engine.lake.events import Event, Hooks
from engine.lake.events import Kind as EventKind
from engine.lake.protocol import (
    DEFAULT_BRANCH,
    BranchMoved,
    Commit,
    Damage,
    Difference,
    DirtyBranch,
    Entry,
    MergeConflict,
    NothingToCommit,
    ObjectNotFound,
    Progress,
    RefNotFound,
    RefTaken,
    Repository,
    Signed,
    Strategy,
    Swept,
    Upload,
)
from engine.store.objects import ObjectStore, Writer
from engine.store.sqlite import Connections, translate

MOST_SUGGESTED = 5000
TRIES = 10


class EmbeddedLake:
    """A lake in the folder ``root``. Reading one that is not there yet finds it empty and creates nothing."""

    def __init__(self, root: Path, objects: ObjectStore, hooks: Hooks | None = None) -> None:
        self.root = root
        self.path = root / "lake.db"
        self.objects = objects
        self.hooks = hooks
        self._connections = Connections(self.path, SCHEMA)

    # -- repositories and refs ------------------------------------------------------------------------

    def repositories(self) -> builtins.list[Repository]:
        """All repositories by name."""
        with self._read() as book:
            return book.repositories()

    def create_repository(self, name: str, default_branch: str = DEFAULT_BRANCH) -> Repository:
        """A new repository with an empty first commit, which is the same on every machine."""
        require_repository_name(name)
        require_branch_name(default_branch)
        made = Repository(name=name, default_branch=default_branch, time=int(clock.time()))
        with self._write() as book:
            if name in [item.name for item in book.repositories()]:
                raise RefTaken(f'the repository "{name}" is there already', hint="choose another name")
            book.add_repository(made)
            nodes = book.nodes()
            first = Commit(id="", parents=(), message="Repository created", author="", time=0)
            head = book.add_commit(name, first, tree.empty(nodes))
            book.add_nodes(nodes)
            book.set_ref(name, "branch", default_branch, head.id)
        return made

    def get_repository(self, name: str) -> Repository:
        """The repository of a name."""
        with self._read() as book:
            return book.repository(name)

    def delete_repository(self, name: str) -> None:
        """Forget a repository and its refs."""
        with self._write() as book:
            book.repository(name)
            book.remove_repository(name)

    def resolve(self, repository: str, ref: str) -> str:
        """The full id of the commit that ``ref`` means now."""
        with self._read() as book:
            return book.resolve(repository, ref)

    def branches(self, repository: str) -> dict[str, str]:
        """Branch names and their commits."""
        with self._read() as book:
            return book.refs(repository, "branch")

    def create_branch(self, repository: str, name: str, source: str) -> str:
        """A new branch at ``source``; its commit."""
        require_branch_name(name)
        return self._create_ref(repository, "branch", name, source)

    def delete_branch(self, repository: str, name: str) -> None:
        """Forget a branch and what is staged on it."""
        with self._write() as book:
            book.require_head(repository, name)
            if book.repository(repository).default_branch == name:
                hint = "delete the repository, if that is what you want"
                raise UsageError(f'"{name}" is the default branch of {repository}', hint=hint)
            book.unstage(repository, name)
            book.remove_ref(repository, "branch", name)

    def tags(self, repository: str) -> dict[str, str]:
        """Tag names and their commits."""
        with self._read() as book:
            return book.refs(repository, "tag")

    def create_tag(self, repository: str, name: str, ref: str) -> str:
        """A new tag at ``ref``; its commit."""
        require_tag_name(name)
        return self._create_ref(repository, "tag", name, ref)

    def delete_tag(self, repository: str, name: str) -> None:
        """Forget a tag."""
        with self._write() as book:
            known = book.refs(repository, "tag")
            if name not in known:
                raise RefNotFound(f"tag in {repository}:", name, known)
            book.remove_ref(repository, "tag", name)

    # -- reading --------------------------------------------------------------------------------------

    def list(
        self, repository: str, ref: str, prefix: str = "", *, after: str = "", delimiter: str = ""
    ) -> Iterator[Entry]:
        """The objects whose paths begin with ``prefix``, by path, read as they are taken."""
        at = after
        rows = self.rows_below(repository, ref, prefix, at)
        while (row := next(rows, None)) is not None:
            path: str = row[tree.PATH]
            end = path.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                yield entry_from(row)
                continue
            folder = path[: end + len(delimiter)]
            if not at.startswith(folder):
                yield Entry(path=folder, is_prefix=True)
            at = folder + END
            rows = self.rows_below(repository, ref, prefix, at)

    def stat(self, repository: str, ref: str, path: str) -> Entry:
        """One object."""
        with self._read() as book:
            row = self._row(book, repository, ref, path)
        if row is None:
            known = [entry.path for entry in islice(self.list(repository, ref), MOST_SUGGESTED)]
            raise ObjectNotFound(f"object in lakefs://{repository}/{ref}/:", path, known)
        return entry_from(row)

    def open(self, repository: str, ref: str, path: str) -> BinaryIO:
        """An object's bytes as a stream."""
        return self.read(self.stat(repository, ref, path))

    def read(self, entry: Entry) -> BinaryIO:
        """The bytes of an object that was listed, as a stream that can be sought in."""
        return self.objects.open(entry.digest)

    def map(self, repository: str, ref: str, path: str) -> memoryview:
        """An object's bytes, mapped."""
        return self.objects.map(self.stat(repository, ref, path).digest)

    def fetch(self, repository: str, commit: str, entry: Entry) -> Entry:
        """``entry`` itself: its bytes are here."""
        if not self.objects.has_bytes(entry.digest):
            raise NotFound("object", entry.digest, place=f"lakefs://{repository}/{commit}/{entry.path}")
        return entry

    def get_commit(self, repository: str, id: str) -> Commit:
        """The commit of a full id."""
        return self.stored(repository, id).commit

    def log(self, repository: str, ref: str, *, first_parent: bool = False) -> Iterator[Commit]:
        """A commit and all that it came from, the newest first."""
        start = self.resolve(repository, ref)
        found = (first_parents if first_parent else ancestors)(start, lambda id: self.stored(repository, id))
        return (stored.commit for stored in found)

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
        """Stage an object. Its bytes are kept before its name is."""
        self.require_place(repository, branch, path)
        digest, size = keep_path(self.objects, data) if isinstance(data, Path) else self.objects.keep(data)
        wanted = Entry(
            path=path,
            digest=digest,
            size=size,
            time=int(clock.time()) if time is None else time,
            content_type=content_type,
            metadata=dict(metadata or {}),
        )
        return self.stage(repository, branch, wanted)

    def keep(self, stream: BinaryIO) -> tuple[str, int]:
        """Keep bytes that :meth:`stage` will name; their digest and number."""
        return self.objects.keep(stream)

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Something to write bytes to that :meth:`stage` will name; its digest is known when the block is left."""
        with self.objects.writer() as writer:
            yield writer

    def stage(self, repository: str, branch: str, *entries: Entry, only_new: bool = False) -> Entry:
        """Stage objects whose bytes are here; the last of them.

        Raises:
            AlreadyExists: with ``only_new``, when an object is at one of the paths.
        """
        for entry in entries:
            require_path(entry.path)
            require_text("object", [entry.content_type, *entry.metadata, *entry.metadata.values()])
        missing = self.objects.touch({entry.digest for entry in entries})
        if missing:
            raise NotFound("object", min(missing), place=str(self.objects.root))
        with self._write() as book:
            book.require_head(repository, branch)
            for entry in entries:
                if only_new and self._row(book, repository, branch, entry.path) is not None:
                    raise AlreadyExists(f"an object is at {entry.path!r} already", hint="choose another path")
            book.stage(repository, branch, {entry.path: row_from(entry) for entry in entries})
        return replace(entries[-1], checksum=entries[-1].digest)

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
        """Stage every file below ``folder``, and commit it all when asked."""
        self.resolve(repository, branch)
        return put_folder(self, repository, branch, prefix, folder, delete=delete, commit=commit, progress=progress)

    def delete(self, repository: str, branch: str, path: str) -> None:
        """Stage the removal of an object."""
        self.require_place(repository, branch, path)
        self.stat(repository, branch, path)
        self.stage_removals(repository, branch, [path])

    def stage_removals(self, repository: str, branch: str, paths: Iterable[str]) -> None:
        """Stage the removal of objects, whether they are there or not."""
        with self._write() as book:
            head = book.require_head(repository, branch)
            nodes, root = book.nodes(), book.commit(repository, head).tree
            for path in paths:
                book.unstage_path(repository, branch, path)
                if tree.find(root, path, nodes) is not None:
                    book.stage(repository, branch, {path: None})

    def stage_rows(self, repository: str, branch: str, changes: Changes) -> None:
        """Stage rows whose bytes are here, and removals."""
        with self._write() as book:
            book.require_head(repository, branch)
            book.stage(repository, branch, changes)

    def changes(self, repository: str, branch: str, prefix: str = "", *, after: str = "") -> Iterator[Difference]:
        """What is staged on a branch, by path."""
        while True:
            with self._read() as book:
                head = book.require_head(repository, branch)
                nodes, root = book.nodes(), book.commit(repository, head).tree
                rows = book.staged(repository, branch, after, prefix)
                found = [Change(path=path, left=tree.find(root, path, nodes), right=row) for path, row in rows]
            yield from (difference_from(change) for change in found if not tree.same(change.left, change.right))
            if not rows:
                return
            after = rows[-1][0]

    def reset(self, repository: str, branch: str, path: str = "") -> None:
        """Drop what is staged."""
        with self._write() as book:
            book.require_head(repository, branch)
            if path and not path.endswith("/"):
                book.unstage_path(repository, branch, path)
            else:
                book.unstage(repository, branch, path)

    def reset_path(self, repository: str, branch: str, path: str) -> None:
        """Drop what is staged at a path, whatever it ends in."""
        with self._write() as book:
            book.require_head(repository, branch)
            book.unstage_path(repository, branch, path)

    def reset_below(self, repository: str, branch: str, prefix: str) -> None:
        """Drop what is staged at the paths that begin with a prefix."""
        with self._write() as book:
            book.require_head(repository, branch)
            book.unstage(repository, branch, prefix)

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
        """Commit what is staged on a branch."""
        signed = Signed(message=message, author=author, metadata=metadata or {}, time=time)
        return self.commit_changes(repository, branch, signed, {}, parent=parent, allow_empty=allow_empty)

    def commit_changes(
        self,
        repository: str,
        branch: str,
        signed: Signed,
        more: Changes,
        *,
        parent: str | None = None,
        allow_empty: bool = False,
    ) -> Commit:
        """Commit what is staged on a branch and ``more``, which is not staged."""
        require_signed(signed)
        for _ in range(TRIES):
            seen = self._ask_before_commit(repository, branch, signed)
            with self._write() as book:
                head = book.require_head(repository, branch)
                if parent not in (None, head):
                    raise BranchMoved(f"{repository}/{branch} is at {head}, not {parent}", hint="read it and try again")
                staged = dict(book.all_staged(repository, branch))
                if seen is not None and seen != (head, staged):
                    continue  # the hooks saw something else
                made = self._commit(book, repository, branch, head, {**staged, **more}, signed, allow_empty=allow_empty)
            self._tell(repository, "post-commit", branch, made)
            return made
        raise BranchMoved(f"{repository}/{branch} does not stay as its hooks saw it", hint="try again")

    def _commit(
        self,
        book: Book,
        repository: str,
        branch: str,
        head: str,
        changes: Changes,
        signed: Signed,
        *,
        allow_empty: bool,
    ) -> Commit:
        before = book.commit(repository, head).tree
        nodes = book.nodes()
        after = tree.apply(before, changes, nodes)
        if after == before and not allow_empty:
            fact = f"nothing is staged on {repository}/{branch}"
            if changes:
                fact = f"what is staged on {repository}/{branch} is what is there already"
            raise NothingToCommit(fact, hint="put or delete an object first")
        self.objects.packs.sync()
        book.add_nodes(nodes)
        book.unstage(repository, branch)
        return self._move(book, repository, branch, signed, (head,), after)

    def diff(
        self, repository: str, left: str, right: str, prefix: str = "", *, after: str = "", two_dot: bool = False
    ) -> Iterator[Difference]:
        """What ``right`` changed, by path."""
        with self._read() as book:
            sides = [book.commit(repository, book.resolve(repository, ref)) for ref in (left, right)]
        base = sides[0] if two_dot else self._base(repository, sides[0], sides[1])
        nodes = self._nodes()
        start = max(prefix, after + "\0" if after else "")
        found: Iterator[ThreeWay | Change] = (
            tree.diff(sides[0].tree, sides[1].tree, nodes, start)
            if two_dot
            else three_way(base.tree, sides[0].tree, sides[1].tree, nodes, start)
        )
        for item in found:
            if item.path.startswith(prefix):
                yield difference_from(item)
            elif item.path > prefix:
                return

    def merge(
        self, repository: str, source: str, destination: str, signed: Signed, *, strategy: Strategy = ""
    ) -> Commit:
        """Bring what ``source`` changed since the sides parted to the branch ``destination``."""
        require_signed(signed)
        if strategy not in ("", "dest-wins", "source-wins"):
            raise UsageError(f'"{strategy}" is not a merge strategy', hint='write "source-wins" or "dest-wins"')
        merged = self.resolve(repository, source)
        signed = signed if signed.message else replace(signed, message=f"Merge '{source}' into '{destination}'")
        if self.hooks is not None:
            with self._read() as book:
                self._merged(book, repository, merged, source, destination, strategy)
            self._ask(repository, "pre-merge", destination, merged, signed, source)
        with self._write() as book:
            head, changes = self._merged(book, repository, merged, source, destination, strategy)
            nodes = book.nodes()
            after = tree.apply(book.commit(repository, head).tree, changes, nodes)
            book.add_nodes(nodes)
            made = self._move(book, repository, destination, signed, (head, merged), after)
        self._tell(repository, "post-merge", destination, made)
        return made

    def _merged(
        self, book: Book, repository: str, merged: str, source: str, destination: str, strategy: Strategy
    ) -> tuple[str, Changes]:
        head = book.require_head(repository, destination)
        ours, theirs = book.commit(repository, head), book.commit(repository, merged)
        base = self._base(repository, ours, theirs, book)
        if base.tree == theirs.tree:
            hint = "it may have been merged before; `engine lake diff` shows what differs"
            if book.head(repository, "branch", source) and book.is_dirty(repository, source):
                hint = f"what is staged on {source} is not committed: `engine lake commit` does that"
            raise NothingToCommit(f"{source} has nothing that is new to {destination}", hint=hint)
        if book.is_dirty(repository, destination):
            raise DirtyBranch(repository, destination)
        found = three_way(base.tree, ours.tree, theirs.tree, book.nodes())
        wins = {"theirs_win": strategy == "source-wins", "ours_win": strategy == "dest-wins"}
        changes, conflicts = decided(found, **wins)
        if conflicts:
            raise MergeConflict(source, destination, conflicts)
        return head, changes

    def revert(self, repository: str, branch: str, ref: str, signed: Signed, *, parent: int = 0) -> Commit:
        """Undo on a branch what a commit did."""
        require_signed(signed)
        with self._write() as book:
            undone = book.commit(repository, book.resolve(repository, ref))
            before = self._parent_tree(book, repository, undone, parent)
            signed = signed if signed.message else replace(signed, message=f"Revert {undone.commit.id}")
            return self._redo(book, repository, branch, ref, signed, undone.tree, before)

    def cherry_pick(self, repository: str, branch: str, ref: str, signed: Signed, *, parent: int = 0) -> Commit:
        """Do on a branch what a commit did."""
        require_signed(signed)
        with self._write() as book:
            picked = book.commit(repository, book.resolve(repository, ref))
            before = self._parent_tree(book, repository, picked, parent)
            origin = {**picked.commit.metadata, "cherry-pick-origin": ref, "cherry-pick-commit": picked.commit.id}
            signed = replace(
                signed, message=signed.message or picked.commit.message, metadata={**origin, **signed.metadata}
            )
            return self._redo(book, repository, branch, ref, signed, before, picked.tree)

    def _redo(
        self, book: Book, repository: str, branch: str, ref: str, signed: Signed, before: str, after: str
    ) -> Commit:
        """Commit on a branch what leads from one tree to another."""
        head = book.require_head(repository, branch)
        if book.is_dirty(repository, branch):
            raise DirtyBranch(repository, branch)
        nodes, ours = book.nodes(), book.commit(repository, head).tree
        changes, conflicts = decided(three_way(before, ours, after, nodes), theirs_win=False, ours_win=False)
        if conflicts:
            raise MergeConflict(ref, branch, conflicts)
        root = tree.apply(ours, changes, nodes)
        if root == ours:
            raise NothingToCommit(
                f"{ref} leaves nothing to do on {branch}", hint="`engine lake diff` shows what is there"
            )
        book.add_nodes(nodes)
        return self._move(book, repository, branch, signed, (head,), root)

    def _parent_tree(self, book: Book, repository: str, stored: Stored, number: int) -> str:
        parents = stored.commit.parents
        if not number and len(parents) > 1:
            hint = "say against which with --parent 1 (the branch merged into) or 2 (the one merged)"
            raise UsageError(f"{stored.commit.id} is a merge of {len(parents)} commits", hint=hint)
        if number < 0 or number > max(len(parents), 1):
            raise UsageError(f"{stored.commit.id} has no parent number {number}", hint=f"it has {len(parents)}")
        if not parents:
            nodes = book.nodes()
            root = tree.empty(nodes)
            book.add_nodes(nodes)
            return root
        return book.commit(repository, parents[max(number, 1) - 1]).tree

    def _move(
        self, book: Book, repository: str, branch: str, signed: Signed, parents: tuple[str, ...], root: str
    ) -> Commit:
        wanted = Commit(
            id="",
            parents=parents,
            message=signed.message,
            author=signed.author,
            time=int(clock.time()) if signed.time is None else signed.time,
            metadata=dict(signed.metadata),
        )
        made = book.add_commit(repository, wanted, root)
        book.set_ref(repository, "branch", branch, made.id)
        return made

    def hard_reset(self, repository: str, branch: str, ref: str) -> str:
        """Move a branch, with nothing staged on it, to another commit."""
        with self._write() as book:
            book.require_head(repository, branch)
            if book.is_dirty(repository, branch):
                raise DirtyBranch(repository, branch)
            head = book.resolve(repository, ref)
            book.set_ref(repository, "branch", branch, head)
        return head

    # -- upkeep ---------------------------------------------------------------------------------------

    def gc(self, pins: Iterable[str] = (), *, older_than: float = 3600.0) -> Swept:
        """Remove the commits and objects that nothing leads to."""
        if not self.path.is_file():
            return Swept(commits=0, objects=0, size=0)
        with self._write() as book:
            return upkeep.sweep(book, self.objects, set(pins), int(clock.time() - older_than) + 1)

    def fsck(self, progress: Progress | None = None, *, hashing: bool = True) -> Iterator[Damage]:
        """Hash everything that the lake holds and give what is not as it was stored.

        Args:
            hashing: also the bytes of objects; without it they only have to be there.
        """
        if self.path.is_file():
            yield from upkeep.check(self._connections.connection(), self.path, self.objects, progress, hashing=hashing)

    # -- hooks ----------------------------------------------------------------------------------------

    def _ask_before_commit(
        self, repository: str, branch: str, signed: Signed
    ) -> tuple[str, dict[str, Row | None]] | None:
        """Run the hooks; what they could see, or ``None`` where there are none."""
        if self.hooks is None:
            return None
        with self._read() as book:
            seen = book.require_head(repository, branch), dict(book.all_staged(repository, branch))
        self._ask(repository, "pre-commit", branch, branch, signed)
        return seen

    def _ask(
        self, repository: str, kind: EventKind, branch: str, source: str, signed: Signed, merge_source: str = ""
    ) -> None:
        if self.hooks is not None:
            event = Event(
                kind=kind,
                repository=repository,
                branch=branch,
                source=source,
                merge_source=merge_source,
                author=signed.author,
                message=signed.message,
                metadata=signed.metadata,
            )
            self.hooks.before(self, event)

    def _tell(self, repository: str, kind: EventKind, branch: str, made: Commit) -> None:
        if self.hooks is not None:
            event = Event(
                kind=kind,
                repository=repository,
                branch=branch,
                source=made.id,
                commit=made.id,
                author=made.author,
                message=made.message,
                metadata=made.metadata,
            )
            self.hooks.after(self, event)

    # -- below ----------------------------------------------------------------------------------------

    def _create_ref(self, repository: str, kind: Kind, name: str, source: str) -> str:
        with self._write() as book:
            head = book.resolve(repository, source)
            if book.head(repository, kind, name):
                raise RefTaken(f'the {kind} "{name}" is there already', hint="choose another name")
            book.set_ref(repository, kind, name, head)
        return head

    def require_place(self, repository: str, branch: str, path: str) -> None:
        """Refuse what is no path, and a branch that is not there."""
        require_path(path)
        self.require_head(repository, branch)

    def require_head(self, repository: str, branch: str) -> str:
        """The commit of a branch, and of nothing else."""
        with self._read() as book:
            return book.require_head(repository, branch)

    def merge_base(self, repository: str, left: str, right: str) -> str:
        """The best common ancestor of two commits."""
        return self._base(repository, self.stored(repository, left), self.stored(repository, right)).commit.id

    def _row(self, book: Book, repository: str, ref: str, path: str) -> Row | None:
        commit = book.resolve(repository, ref)
        branch = book.shows_staged(repository, ref)
        staged = book.staged_row(repository, branch, path) if branch else None
        return staged[0] if staged else tree.find(book.commit(repository, commit).tree, path, book.nodes())

    def rows_below(self, repository: str, ref: str, prefix: str, after: str = "") -> Iterator[Row]:
        """The rows of a ref behind ``after``. Each stretch is read as the branch is at that moment."""
        while True:
            with self._read() as book:
                root = book.commit(repository, book.resolve(repository, ref)).tree
                branch = book.shows_staged(repository, ref)
                staged = dict(book.staged(repository, branch, after, prefix)) if branch else {}
            end = max(staged, default="")
            start = max(prefix, after + "\0" if after else "")
            committed = tree.walk(root, self._nodes(), start)
            for row in overlaid(committed, staged, end) if end else committed:
                if not row[tree.PATH].startswith(prefix):
                    return
                yield row
            if not end:
                return
            after = end

    def _base(self, repository: str, left: Stored, right: Stored, book: Book | None = None) -> Stored:
        load = (lambda id: book.commit(repository, id)) if book else (lambda id: self.stored(repository, id))
        base = merge_base(left.commit.id, right.commit.id, load)
        if base is None:
            raise UsageError(f"{left.commit.id} and {right.commit.id} have no history in common")
        return base

    def stored(self, repository: str, id: str) -> Stored:
        """A commit with its tree."""
        with self._read() as book:
            return book.commit(repository, id)

    def _nodes(self) -> tree.Nodes:
        """Nodes that are read over some time, in which connections may come and go."""
        return tree.Nodes(read=lambda digest: read_node(Book(self._connections.connection(), self.path), digest))

    @contextmanager
    def _read(self) -> Iterator[Book]:
        """The tables as they are at one moment."""
        if not self.path.is_file():
            with closing(empty()) as db:
                yield Book(db, self.path)
            return
        try:
            db = self._connections.connection()
            require_version(db, self.path)
            db.execute("begin")
            try:
                yield Book(db, self.path)
            finally:
                db.rollback()
        except sqlite3.DatabaseError as error:
            self._connections.drop()
            raise translate(error, self.path) from error

    @contextmanager
    def _write(self) -> Iterator[Book]:
        """The tables, to change: all of it or nothing."""
        with self._connections.transaction() as db:
            require_version(db, self.path)
            yield Book(db, self.path)


def overlaid(committed: Iterator[Row], staged: Changes, end: str) -> Iterator[Row]:
    """Committed rows with staged ones in their places, up to and including the path ``end``."""
    waiting = sorted(staged.items())
    index = 0
    for row in committed:
        path = row[tree.PATH]
        if path > end:
            break
        while index < len(waiting) and waiting[index][0] < path:
            if waiting[index][1] is not None:
                yield waiting[index][1]  # type: ignore[misc]
            index += 1
        if index == len(waiting) or waiting[index][0] != path:
            yield row
    yield from (new for _, new in waiting[index:] if new is not None)


def entry_from(row: Row) -> Entry:
    """A row as the protocol's entry."""
    more = row[tree.MORE] if len(row) > tree.MORE else {}
    return Entry(
        path=row[tree.PATH],
        digest=row[tree.DIGEST],
        size=row[tree.SIZE],
        time=row[tree.TIME],
        checksum=row[tree.DIGEST],
        content_type=more.get("type", ""),
        metadata=more.get("metadata", {}),
    )


def row_from(entry: Entry) -> Row:
    """An entry as it is stored."""
    more: dict[str, object] = {"type": entry.content_type} if entry.content_type else {}
    if entry.metadata:
        more["metadata"] = dict(entry.metadata)
    row: Row = [entry.path, entry.digest, entry.size, entry.time]
    return [*row, more] if more else row


def difference_from(change: Change | ThreeWay) -> Difference:
    """A change as the protocol's difference."""
    if isinstance(change, ThreeWay):
        before, after = change.base, change.theirs
        if change.conflict:
            return Difference(path=change.path, change="conflict", size=(after or before or [0] * 3)[tree.SIZE])
    else:
        before, after = change.left, change.right
    if before is None or after is None:
        row = after or before
        assert row is not None
        return Difference(path=change.path, change="added" if before is None else "removed", size=row[tree.SIZE])
    return Difference(path=change.path, change="changed", size=after[tree.SIZE])


def require_signed(signed: Signed) -> None:
    """Refuse what cannot be stored as text."""
    require_text("commit", [signed.message, signed.author, *signed.metadata, *signed.metadata.values()])


def keep_path(objects: ObjectStore, path: Path) -> tuple[str, int]:
    """Keep a copy of a file; its digest and size.

    Raises:
        NotFound, UsageError: when it is not there or cannot be read.
    """
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise NotFound("file", str(path), hint="name a file that is there") from error
    except OSError as error:
        hint = "name a file that you may read"
        raise UsageError(f"cannot be read: {error.strerror}", place=str(path), hint=hint) from error
    return objects.keep_file(path)


def empty() -> sqlite3.Connection:
    """What a lake that is not there yet reads like."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    db.executescript(SCHEMA)
    return db

"""A lake on a lakeFS server. What lies there has no SHA-256 of ours before its bytes were here.

Bytes go up and down in blocks. What was fetched at a commit is remembered by (repository, commit, path), as it never
changes; what a checksum of the server's stood for is remembered too, so that an unchanged file is not sent again.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import re
import time as clock
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

from engine.digest import sha256, sha256_file, sha256_stream
from engine.errors import EngineError, LakeUnavailable, NotFound, UsageError
from engine.lake.embedded.folder import File, found_in, read_looks
from engine.lake.embedded.names import (
    read_ref,
    require_branch_name,
    require_path,
    require_repository_name,
    require_tag_name,
    require_text,
)
from engine.lake.lakefs import Answered, Asked, Document, Server
from engine.lake.protocol import (
    DEFAULT_BRANCH,
    BranchMoved,
    Commit,
    Damage,
    Difference,
    DirtyBranch,
    Entry,
    HookRefused,
    LakeDenied,
    MergeConflict,
    NothingToCommit,
    NotSupported,
    ObjectNotFound,
    Progress,
    RefNotFound,
    RefTaken,
    Repository,
    RepositoryNotFound,
    Signed,
    Strategy,
    Swept,
    Upload,
)
from engine.lake.refs import split_ref
from engine.store.objects import ObjectStore
from engine.store.sqlite import Connections

PAGE = 1000
NOTHING: Mapping[str, str] = {}
LARGE = 8 << 20
MOST_SIGNED = 5 << 30  # the largest object that S3 takes in one piece
UPLOADS_AT_ONCE = 4
MOST_SUGGESTED = 1000
PLAIN_NAME = re.compile(r"[a-z0-9_-]+")
Item = TypeVar("Item")
SCHEMA = """
create table if not exists fetched (
  repository text not null, commit_id text not null, path text not null, digest text not null, size integer not null,
  primary key (repository, commit_id, path)
) without rowid;
create table if not exists known (
  repository text not null, checksum text not null, size integer not null, digest text not null,
  primary key (repository, checksum, size)
) without rowid;
"""


class RemoteLake:
    """A lake on a server.

    Args:
        objects: where fetched bytes are kept.
        cache: a folder for what is remembered of this server.
    """

    def __init__(self, server: Server, objects: ObjectStore, cache: Path) -> None:
        self.server = server
        self.objects = objects
        self.cache = cache / sha256(server.credentials.endpoint.encode())[:16]
        self._memory = Connections(self.cache / "remote.db", SCHEMA)
        self._presigns: bool | None = None
        self._storage: Mapping[str, Any] | None = None

    # -- repositories and refs ------------------------------------------------------------------------

    def repositories(self) -> builtins.list[Repository]:
        """All repositories by name."""
        return builtins.list(self._pages(repository_from, "repositories"))

    def create_repository(self, name: str, default_branch: str = DEFAULT_BRANCH) -> Repository:
        """A new repository; the server's operator may say where its bytes lie."""
        require_repository_name(name)
        require_branch_name(default_branch)
        body = {"name": name, "storage_namespace": self._namespace(name), "default_branch": default_branch}
        try:
            return self.server.understood(repository_from, self.server.json("POST", "repositories", body=body))
        except Answered as error:
            if error.status == 409:
                fact = f'the repository "{name}" is there already'
                raise RefTaken(fact, hint="choose another name") from error
            raise usage(error) from error

    def _namespace(self, name: str) -> str:
        """Where the bytes of a new repository lie: where the server's operator says, or in the server's own folder."""
        storage = self._storage_config()
        prefix = storage.get("default_namespace_prefix") or ""
        if not prefix:
            kind = storage.get("blockstore_type") or "local"
            if kind not in ("local", "mem"):
                hint = "make it with `lakectl repo create`, or set blockstore.default_namespace_prefix on the server"
                fact = f"the server does not say where in its {kind} storage a repository may lie"
                raise UsageError(fact, place=self.server.credentials.endpoint, hint=hint)
            prefix = f"{kind}://"
        return f"{prefix}{'' if prefix.endswith('/') else '/'}{name}"

    def delete_repository(self, name: str) -> None:
        """Forget a repository."""
        try:
            self.server.json("DELETE", "repositories", name)
        except Answered as error:
            raise self._error(error, name) from error
        with self._memory.transaction(durable=False) as db:
            for table in ("fetched", "known"):
                db.execute(f"delete from {table} where repository = ?", (name,))  # noqa: S608

    def resolve(self, repository: str, ref: str) -> str:
        """The full id of the commit that ``ref`` means now."""
        read_ref(ref)
        try:
            found = self._get(repository, "refs", ref.removesuffix("$"), "commits", query={"amount": 1})
        except Answered as error:
            raise self._error(error, repository, ref) from error
        return self.server.understood(lambda answer: str(answer["results"][0]["id"]), found)

    def branches(self, repository: str) -> dict[str, str]:
        """Branch names and their commits."""
        return self._refs(repository, "branches")

    def create_branch(self, repository: str, name: str, source: str) -> str:
        """A new branch at ``source``; its commit."""
        require_branch_name(name)
        head = self.resolve(repository, source)
        self._create(repository, "branch", name, "branches", {"name": name, "source": head})
        return head

    def delete_branch(self, repository: str, name: str) -> None:
        """Forget a branch and what is staged on it."""
        if name == self._repository(repository).default_branch:
            hint = "delete the repository, if that is what you want"
            raise UsageError(f'"{name}" is the default branch of {repository}', hint=hint)
        self._delete_ref(repository, "branch", "branches", name)

    def tags(self, repository: str) -> dict[str, str]:
        """Tag names and their commits."""
        return self._refs(repository, "tags")

    def create_tag(self, repository: str, name: str, ref: str) -> str:
        """A new tag at ``ref``; its commit."""
        require_tag_name(name)
        head = self.resolve(repository, ref)
        self._create(repository, "tag", name, "tags", {"id": name, "ref": head})
        return head

    def delete_tag(self, repository: str, name: str) -> None:
        """Forget a tag."""
        self._delete_ref(repository, "tag", "tags", name)

    # -- reading --------------------------------------------------------------------------------------

    def list(
        self, repository: str, ref: str, prefix: str = "", *, after: str = "", delimiter: str = ""
    ) -> Iterator[Entry]:
        """The objects whose paths begin with ``prefix``, by path, a thousand at a time."""
        query = {"prefix": prefix, "after": after, "delimiter": delimiter, "user_metadata": True}
        try:
            yield from self._pages(entry_from, "repositories", repository, "refs", ref, "objects", "ls", query=query)
        except Answered as error:
            raise self._error(error, repository, ref) from error

    def stat(self, repository: str, ref: str, path: str) -> Entry:
        """One object."""
        return self.server.understood(entry_from, self._stat(repository, ref, path))

    def open(self, repository: str, ref: str, path: str) -> BinaryIO:
        """An object's bytes as a stream; from where they lie, when the server gives an address for that."""
        if self._signs():
            found = self._stat(repository, ref, path, presign=True)
            address, size = str(found["physical_address"]), found.get("size_bytes")
            if address.startswith(("http://", "https://")):
                return cast("BinaryIO", io.BufferedReader(self.server.stream_signed(address, size), 1 << 20))
        try:
            parts = ("repositories", repository, "refs", ref, "objects")
            return cast("BinaryIO", io.BufferedReader(self.server.stream(*parts, query={"path": path}), 1 << 20))
        except Answered as error:
            raise self._error(error, repository, ref, path) from error

    def map(self, repository: str, ref: str, path: str) -> memoryview:
        """An object's bytes, mapped once they are here."""
        if is_fixed(ref):
            return self.objects.map(self.fetch(repository, ref, self.stat(repository, ref, path)).digest)
        with self.open(repository, ref, path) as stream:
            digest, _ = self.objects.keep(stream)
        return self.objects.map(digest)

    def fetch(self, repository: str, commit: str, entry: Entry) -> Entry:
        """``entry`` with its digest. What was fetched before and is still here is not fetched again."""
        query = "select digest from fetched where repository = ? and commit_id = ? and path = ?"
        row = self._recall(query, repository, commit, entry.path) if is_fixed(commit) else None
        if row is not None and self.objects.has_bytes(row[0]):
            return replace(entry, digest=row[0])
        with self.open(repository, commit, entry.path) as stream:
            digest, size = self.objects.keep(stream)
        if size != entry.size:
            place = f"lakefs://{repository}/{commit}/{entry.path}"
            fact = f"the lake gave {size} bytes of an object of {entry.size}"
            raise LakeUnavailable(fact, place=place, hint="try again; look at the server's log")
        with self._memory.transaction(durable=False) as db:
            if is_fixed(commit):
                fetched = (repository, commit, entry.path, digest, size)
                db.execute("insert or replace into fetched values (?, ?, ?, ?, ?)", fetched)
            known = (repository, entry.checksum, size, digest)
            db.execute("insert or replace into known values (?, ?, ?, ?)", known)
        return replace(entry, digest=digest, size=size)

    def log(self, repository: str, ref: str, *, first_parent: bool = False) -> Iterator[Commit]:
        """A commit and all that it came from, the newest first."""
        read_ref(ref)
        parts = ("repositories", repository, "refs", ref.removesuffix("$"), "commits")
        try:
            yield from self._pages(commit_from, *parts, query={"first_parent": first_parent})
        except Answered as error:
            raise self._error(error, repository, ref) from error

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
        time: int | None = None,  # noqa: ARG002  (the server knows when)
    ) -> Entry:
        """Stage an object, in blocks. A stream that cannot be sought in is sent once only."""
        require_path(path)
        require_text("object", [content_type, *(metadata or {}), *(metadata or {}).values()])
        if not (content_type.isascii() and content_type.isprintable()):
            raise UsageError(f"{content_type!a} is not a content type", hint="write one as in text/csv")
        if not isinstance(data, Path):
            return self._upload(repository, branch, path, data, content_type, metadata or {})
        try:
            stream = data.open("rb")
        except FileNotFoundError as error:
            raise NotFound("file", str(data), hint="name a file that is there") from error
        except OSError as error:
            hint = "name a file that you may read"
            raise UsageError(f"cannot be read: {error.strerror}", place=str(data), hint=hint) from error
        with stream:
            return self._upload(repository, branch, path, stream, content_type, metadata or {})

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
        """Stage every file below ``folder``; those that the server has already are not sent."""
        started = clock.time_ns()
        self._require_branch(repository, branch)
        folder = Path(os.path.abspath(folder))  # noqa: PTH100  (what a link to a folder is called stays)
        files = found_in(folder, prefix)
        looks = read_looks(self.cache, folder, f"{repository}/{prefix}")
        kept, unread = looks.split(files)
        kept.update({file.path: (digest_of(file), file.look[0]) for file in unread})
        there = {entry.path: entry for entry in self.list(repository, branch, prefix)}
        changed = [file for file in files if not self._is_there(repository, there.get(file.path), kept[file.path][0])]
        gone = sorted(set(there) - set(kept)) if delete else []
        if progress:
            progress(sum(file.look[0] for file in files) - sum(file.look[0] for file in changed))
        self._send_all(repository, branch, changed, progress)
        self._remove(repository, branch, gone)
        made = None
        if commit is not None:
            with suppress(NothingToCommit):
                made = self._commit(repository, branch, commit)
        if unread or len(looks.known) != len(files):
            looks.write(kept, unread, started)
        size = sum(size for _, size in kept.values())
        return Upload(files=len(files), size=size, read=len(unread), changes=len(changed) + len(gone), commit=made)

    def delete(self, repository: str, branch: str, path: str) -> None:
        """Stage the removal of an object."""
        require_path(path)
        self._require_branch(repository, branch)
        self.stat(repository, branch, path)
        self._remove(repository, branch, [path])

    def changes(self, repository: str, branch: str, prefix: str = "", *, after: str = "") -> Iterator[Difference]:
        """What is staged on a branch, by path."""
        query = {"prefix": prefix, "after": after}
        try:
            yield from self._pages(difference_from, "repositories", repository, "branches", branch, "diff", query=query)
        except Answered as error:
            raise self._error(error, repository, branch, is_branch=True) from error

    def reset(self, repository: str, branch: str, path: str = "") -> None:
        """Drop what is staged."""
        kind = "common_prefix" if path.endswith("/") else "object"
        body = {"type": kind, "path": path} if path else {"type": "reset"}
        try:
            self.server.json("PUT", "repositories", repository, "branches", branch, body=body)
        except Answered as error:
            if error.status == 404 and path and branch in self.branches(repository):
                return  # nothing is staged there
            raise self._error(error, repository, branch, is_branch=True) from error

    # -- history --------------------------------------------------------------------------------------

    def commit(
        self,
        repository: str,
        branch: str,
        message: str,
        *,
        author: str = "",  # noqa: ARG002  (the server says who, by the key)
        metadata: Mapping[str, str] | None = None,
        time: int | None = None,
        parent: str | None = None,
        allow_empty: bool = False,
    ) -> Commit:
        """Commit what is staged. The server names the author; ``parent`` is looked at just before, not in one go."""
        signed = Signed(message=message, metadata=metadata or {}, time=time)
        require_text("commit", [message, *signed.metadata, *signed.metadata.values()])
        if parent is not None:
            head = self._require_branch(repository, branch)
            if head != parent:
                raise BranchMoved(f"{repository}/{branch} is at {head}, not {parent}", hint="read it and try again")
        return self._commit(repository, branch, signed, allow_empty=allow_empty)

    def diff(
        self, repository: str, left: str, right: str, prefix: str = "", *, after: str = "", two_dot: bool = False
    ) -> Iterator[Difference]:
        """What ``right`` changed, by path."""
        query = {"prefix": prefix, "after": after, "type": "two_dot" if two_dot else "three_dot"}
        try:
            yield from self._pages(
                difference_from, "repositories", repository, "refs", left, "diff", right, query=query
            )
        except Answered as error:
            self.resolve(repository, left)
            raise self._error(error, repository, right) from error

    def merge(
        self, repository: str, source: str, destination: str, signed: Signed, *, strategy: Strategy = ""
    ) -> Commit:
        """Bring what ``source`` changed since the sides parted to the branch ``destination``."""
        if strategy not in ("", "dest-wins", "source-wins"):
            raise UsageError(f'"{strategy}" is not a merge strategy', hint='write "source-wins" or "dest-wins"')
        message = signed.message or f"Merge '{source}' into '{destination}'"
        body = {"message": message, "metadata": dict(signed.metadata), **({"strategy": strategy} if strategy else {})}
        try:
            found = self._post(repository, "refs", source, "merge", destination, body=body)
        except Answered as error:
            self.resolve(repository, source)
            self._require_branch(repository, destination)
            raise self._merge_error(error, repository, source, destination) from error
        return self._get_commit(repository, found["reference"])

    def revert(self, repository: str, branch: str, ref: str, signed: Signed, *, parent: int = 0) -> Commit:
        """Undo on a branch what a commit did."""
        body = {"ref": ref, "parent_number": self._parent(repository, ref, parent), **overrides(signed)}
        try:
            self._post(repository, "branches", branch, "revert", body=body)
        except Answered as error:
            raise self._redo_error(error, repository, branch, ref) from error
        return self._get_commit(repository, self.resolve(repository, branch))

    def cherry_pick(self, repository: str, branch: str, ref: str, signed: Signed, *, parent: int = 0) -> Commit:
        """Do on a branch what a commit did."""
        number = self._parent(repository, ref, parent)
        body = {"ref": ref, **({"parent_number": number} if number else {}), **overrides(signed)}
        try:
            found = self._post(repository, "branches", branch, "cherry-pick", body=body)
            return self.server.understood(commit_from, found)
        except Answered as error:
            raise self._redo_error(error, repository, branch, ref) from error

    # -- upkeep ---------------------------------------------------------------------------------------

    def gc(self, pins: Iterable[str] = (), *, older_than: float = 3600.0) -> Swept:  # noqa: ARG002
        """A server collects its own garbage."""
        raise NotSupported("a lakeFS server collects its own garbage", hint="see its rules for garbage collection")

    def fsck(self, progress: Progress | None = None) -> Iterator[Damage]:
        """Fetch again what was fetched here before, and compare."""
        rows = []
        if self._memory.path.is_file():
            rows = self._memory.connection().execute("select * from fetched order by 1, 2, 3").fetchall()
        for repository, commit, path, digest, size in rows:
            try:
                with self.open(repository, commit, path) as stream:
                    found = sha256_stream(stream)
            except EngineError as error:
                yield Damage(what="object", name=f"lakefs://{repository}/{commit}/{path}", fact=error.fact)
                continue
            if found != digest:
                fact = f"it was {digest} when it was fetched first, and is {found}"
                yield Damage(what="object", name=f"lakefs://{repository}/{commit}/{path}", fact=fact)
            if progress:
                progress(size)

    # -- uploads --------------------------------------------------------------------------------------

    def _upload(
        self, repository: str, branch: str, path: str, data: BinaryIO, content_type: str, metadata: Mapping[str, str]
    ) -> Entry:
        stream = Hashed(data)
        size = stream.size
        try:
            if size is not None and LARGE <= size <= MOST_SIGNED and self._signs():
                found = self._upload_signed(repository, branch, path, stream, size, content_type, metadata)
            else:
                found = self._upload_plain(repository, branch, path, stream, size, content_type, metadata)
        except Answered as error:
            raise self._error(error, repository, branch, is_branch=True) from error
        entry = replace(
            self.server.understood(entry_from, found),
            digest=stream.hexdigest(),
            content_type=content_type,
            metadata=dict(metadata),
        )
        with self._memory.transaction(durable=False) as db:
            row = (repository, entry.checksum, entry.size, entry.digest)
            db.execute("insert or replace into known values (?, ?, ?, ?)", row)
        return entry

    def _upload_plain(
        self,
        repository: str,
        branch: str,
        path: str,
        stream: Hashed,
        size: int | None,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> dict[str, Any]:
        headers = {"Content-Type": content_type or "application/octet-stream", "Accept": "application/json"}
        if size is not None:
            headers["Content-Length"] = str(size)
        plain = all(
            PLAIN_NAME.fullmatch(key) and value.isascii() and value.isprintable() and value == value.strip()
            for key, value in metadata.items()
        )
        if plain:
            headers.update({f"x-lakefs-meta-{key}": value for key, value in metadata.items()})
        parts = ("repositories", repository, "branches", branch, "objects")
        body = cast("IO[bytes]", stream) if size != 0 else b""
        url = self.server.url(*parts, query={"path": path})
        found = self.server.answer(Asked(method="POST", url=url, headers=headers, body=body, harmless=True))
        if not plain:
            query, body_ = {"path": path}, {"set": dict(metadata)}
            self.server.json("PUT", *parts, "stat", "user_metadata", query=query, body=body_)
        return found

    def _upload_signed(
        self,
        repository: str,
        branch: str,
        path: str,
        stream: Hashed,
        size: int,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> dict[str, Any]:
        """Send the bytes to where they are to lie, and then say what they are."""
        parts = ("repositories", repository, "branches", branch, "staging", "backing")
        staging = self.server.json("GET", *parts, query={"path": path, "presign": True})
        if not staging.get("presigned_url"):
            return self._upload_plain(repository, branch, path, stream, size, content_type, metadata)
        headers = {"Content-Length": str(size), "Content-Type": content_type or "application/octet-stream"}
        if (self._storage or {}).get("blockstore_type") == "azure":
            headers["x-ms-blob-type"] = "BlockBlob"
        url, data = str(staging["presigned_url"]), cast("IO[bytes]", stream)
        response = self.server.send(Asked(method="PUT", url=url, headers=headers, body=data, signed=True))
        response.drain_conn()
        response.release_conn()
        body = {
            "staging": staging,
            "checksum": response.headers.get("ETag", "").strip('"'),
            "size_bytes": size,
            "user_metadata": dict(metadata),
            "content_type": content_type,
        }
        return self.server.json("PUT", *parts, query={"path": path}, body=body)

    def _send_all(self, repository: str, branch: str, files: builtins.list[File], progress: Progress | None) -> None:
        def send(file: File) -> int:
            return self.put(repository, branch, file.path, Path(file.source)).size

        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
            for size in pool.map(send, files):
                if progress:
                    progress(size)

    def _remove(self, repository: str, branch: str, paths: builtins.list[str]) -> None:
        for start in range(0, len(paths), PAGE):
            body = {"paths": paths[start : start + PAGE]}
            try:
                found = self._post(repository, "branches", branch, "objects", "delete", body=body)
            except Answered as error:
                raise self._error(error, repository, branch, is_branch=True) from error
            if found.get("errors"):
                first = found["errors"][0]
                raise UsageError(
                    str(first.get("message")), place=f"lakefs://{repository}/{branch}/{first.get('path', '')}"
                )

    def _is_there(self, repository: str, entry: Entry | None, digest: str) -> bool:
        """Whether the server's object is known to have these bytes."""
        if entry is None:
            return False
        query = "select digest from known where repository = ? and checksum = ? and size = ?"
        row = self._recall(query, repository, entry.checksum, entry.size)
        return row is not None and row[0] == digest

    def _recall(self, query: str, *values: object) -> tuple[str] | None:
        if not self._memory.path.is_file():
            return None
        row = self._memory.connection().execute(query, values).fetchone()
        return (str(row[0]),) if row else None

    # -- below ----------------------------------------------------------------------------------------

    def _get(self, repository: str, *parts: str, query: Mapping[str, object] | None = None) -> Document:
        return self.server.json("GET", "repositories", repository, *parts, query=query)

    def _post(self, repository: str, *parts: str, body: object) -> Document:
        return self.server.json("POST", "repositories", repository, *parts, body=body)

    def _pages(
        self, read: Callable[[Any], Item], *parts: str, query: Mapping[str, object] | None = None
    ) -> Iterator[Item]:
        """What ``read`` makes of each result of a listing, one at a time: to hold a page of them costs a tenth more.

        Raises:
            LakeUnavailable: for a page that is none, and for one that leads to itself.
        """
        with self.server.understanding():
            yield from chain.from_iterable(map(read, page) for page in self._results(*parts, query=query or {}))

    def _results(self, *parts: str, query: Mapping[str, object]) -> Iterator[builtins.list[Any]]:
        after = str(query.get("after", ""))
        while True:
            found = self.server.json("GET", *parts, query={**query, "after": after, "amount": PAGE})
            pagination = found["pagination"]
            following = str(pagination["next_offset"]) if pagination["has_more"] else ""
            if following and following == after:
                raise self.server.strange()
            yield found["results"]
            if not following:
                return
            after = following

    def _refs(self, repository: str, kind: str) -> dict[str, str]:
        """Names of branches or tags, sorted, and their commits."""

        def ref(item: Mapping[str, Any]) -> tuple[str, str]:
            return str(item["id"]), str(item["commit_id"])

        try:
            return dict(sorted(self._pages(ref, "repositories", repository, kind)))
        except Answered as error:
            raise self._error(error, repository) from error

    def _repository(self, name: str) -> Repository:
        try:
            return self.server.understood(repository_from, self._get(name))
        except Answered as error:
            raise self._error(error, name) from error

    def _stat(self, repository: str, ref: str, path: str, *, presign: bool = False) -> dict[str, Any]:
        query = {"path": path, "presign": presign, "user_metadata": True}
        try:
            found = self._get(repository, "refs", ref, "objects", "stat", query=query)
        except Answered as error:
            raise self._error(error, repository, ref, path) from error
        return found

    def _get_commit(self, repository: str, id: str) -> Commit:
        return self.server.understood(commit_from, self._get(repository, "commits", id))

    def _commit(self, repository: str, branch: str, signed: Signed, *, allow_empty: bool = False) -> Commit:
        body = {"message": signed.message, "metadata": dict(signed.metadata), "allow_empty": allow_empty}
        if signed.time is not None:
            body["date"] = signed.time
        try:
            found = self._post(repository, "branches", branch, "commits", body=body)
            return self.server.understood(commit_from, found)
        except Answered as error:
            if error.status == 400 and next(self.changes(repository, branch), None) is None:
                fact = f"nothing is staged on {repository}/{branch}"
                raise NothingToCommit(fact, hint="put or delete an object first") from error
            raise self._error(error, repository, branch, is_branch=True) from error

    def _create(self, repository: str, kind: str, name: str, part: str, body: dict[str, str]) -> None:
        try:
            self._post(repository, part, body=body)
        except Answered as error:
            if error.status == 409:
                raise RefTaken(f'the {kind} "{name}" is there already', hint="choose another name") from error
            raise self._error(error, repository) from error

    def _delete_ref(self, repository: str, kind: str, part: str, name: str) -> None:
        try:
            self.server.json("DELETE", "repositories", repository, part, name)
        except Answered as error:
            if error.status == 404:
                raise RefNotFound(f"{kind} in {repository}:", name, self._refs(repository, part)) from error
            raise self._error(error, repository, name) from error

    def _require_branch(self, repository: str, branch: str) -> str:
        try:
            return str(self._get(repository, "branches", branch)["commit_id"])
        except Answered as error:
            raise self._error(error, repository, branch, is_branch=True) from error

    def _parent(self, repository: str, ref: str, number: int) -> int:
        """Which parent is meant, once it is known that the commit has it."""
        commit = self._get_commit(repository, self.resolve(repository, ref))
        count = len(commit.parents)
        if not number and count > 1:
            hint = "say against which with --parent 1 (the branch merged into) or 2 (the one merged)"
            raise UsageError(f"{commit.id} is a merge of {count} commits", hint=hint)
        if number < 0 or number > max(count, 1):
            raise UsageError(f"{commit.id} has no parent number {number}", hint=f"it has {count}")
        return number

    def _signs(self) -> bool:
        """Whether the server gives addresses that need no key."""
        if self._presigns is None:
            self._presigns = bool(self._storage_config().get("pre_sign_support"))
        return self._presigns

    def _storage_config(self) -> Mapping[str, Any]:
        """What the server says of the storage behind it; nothing where the key may not know."""
        if self._storage is None:
            found = self.server.json("GET", "config")
            self._storage = self.server.understood(lambda answer: dict(answer.get("storage_config") or {}), found)
        return self._storage

    # -- what an answer means -------------------------------------------------------------------------

    def _error(
        self, error: Answered, repository: str, ref: str = "", path: str = "", *, is_branch: bool = False
    ) -> EngineError:
        """The error of ours for an answer of the server's, with what there is instead."""
        if error.status == 412:
            return HookRefused(
                error.fact, place=f"lakefs://{repository}/{ref}", hint="nothing was changed; mend what it names"
            )
        if error.status != 404:
            return usage(error)
        try:
            return self._missing(repository, ref, path, is_branch=is_branch)
        except LakeDenied:  # a key may read what it may not list: the server's words must do
            return (ObjectNotFound if path else RefNotFound if ref else RepositoryNotFound)(
                "object" if path else "ref" if ref else "repository",
                f"lakefs://{repository}/{ref}/{path}" if ref else repository,
                hint=f"the lake says: {error.fact}",
            )

    def _missing(self, repository: str, ref: str, path: str, *, is_branch: bool) -> EngineError:
        """The error for something that is not there."""
        names = [item.name for item in self.repositories()]
        if repository not in names:
            return RepositoryNotFound("repository", repository, names)
        branches = self.branches(repository)
        if is_branch and ref not in branches:
            return RefNotFound(f"branch in {repository}:", ref, branches)
        if path and (ref in branches or self._exists(repository, ref)):
            known = [entry.path for entry in islice(self.list(repository, ref), MOST_SUGGESTED)]
            return ObjectNotFound(f"object in lakefs://{repository}/{ref}/:", path, known)
        return self._ref_error(repository, ref, branches)

    def _ref_error(self, repository: str, ref: str, branches: Mapping[str, str]) -> EngineError:
        base, steps = split_ref(ref)
        if steps and self._exists(repository, base):
            hint = "the history does not go back that far"
            return RefNotFound(f"commit in {repository}:", ref, hint=hint)
        return RefNotFound(f"branch, tag or commit in {repository}:", base, [*branches, *self.tags(repository)])

    def _exists(self, repository: str, ref: str) -> bool:
        try:
            self._get(repository, "refs", ref.removesuffix("$"), "commits", query={"amount": 1})
        except Answered:
            return False
        return True

    def _merge_error(self, error: Answered, repository: str, source: str, destination: str) -> EngineError:
        if error.status == 409:
            found = self.diff(repository, destination, source)
            paths = islice((item.path for item in found if item.change == "conflict"), PAGE)
            return MergeConflict(source, destination, paths)
        if error.status == 400:
            if next(self.diff(repository, destination, source), None) is None:
                hint = "it may have been merged before; `engine lake diff` shows what differs"
                return NothingToCommit(f"{source} has nothing that is new to {destination}", hint=hint)
            if next(self.changes(repository, destination), None) is not None:
                return DirtyBranch(repository, destination)
        return self._error(error, repository, destination, is_branch=True)

    def _redo_error(self, error: Answered, repository: str, branch: str, ref: str) -> EngineError:
        self._require_branch(repository, branch)
        if error.status == 409:
            return MergeConflict(ref, branch)
        if error.status == 400:
            if next(self.changes(repository, branch), None) is not None:
                return DirtyBranch(repository, branch)
            return NothingToCommit(error.fact.partition("; ")[0], hint="`engine lake diff` shows what is there")
        return self._error(error, repository, branch, is_branch=True)


def is_fixed(ref: str) -> bool:
    """Whether a ref is a full commit id, and so means the same for ever."""
    return re.fullmatch("[0-9a-f]{64}", ref) is not None


class Hashed(io.RawIOBase):
    """A stream that is hashed as it is read, from where it was when it came: as many bytes as were there then."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.hasher = hashlib.sha256()
        self.start, self.size = 0, None
        if stream.seekable():
            with reading_stream(stream):
                self.start = stream.tell()
                self.size = stream.seek(0, io.SEEK_END) - self.start
                stream.seek(self.start)
        self.left = self.size

    def hexdigest(self) -> str:
        """The SHA-256 of what was read."""
        return self.hasher.hexdigest()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can begin anew."""
        return self.stream.seekable()

    def tell(self) -> int:
        """Where it is."""
        return self.stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go back to the start, and hash anew."""
        if (offset, whence) == (self.start, io.SEEK_SET):
            self.hasher, self.left = hashlib.sha256(), self.size
        return self.stream.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes.

        Raises:
            UsageError: when they cannot be read, or somebody took them away.
        """
        wanted = -1 if size is None else size
        if self.left is not None:
            wanted = self.left if wanted < 0 else min(wanted, self.left)
        with reading_stream(self.stream):
            data = self.stream.read(wanted)
        if self.left is not None:
            self.left -= len(data)
            if wanted and not data:
                hint = "put it again when nothing writes to it"
                raise UsageError("became shorter while it was sent", place=place_of(self.stream), hint=hint)
        self.hasher.update(data)
        return data


def place_of(stream: BinaryIO) -> str:
    """The file that a stream reads, if it has one."""
    return str(getattr(stream, "name", ""))


@contextmanager
def reading_stream(stream: BinaryIO) -> Iterator[None]:
    """Give an ``OSError`` raised inside as one of ours, or it would be taken for one of the connection's."""
    try:
        yield
    except OSError as error:
        hint = "name a file that you may read"
        raise UsageError(f"cannot be read: {error.strerror}", place=place_of(stream), hint=hint) from error


def digest_of(file: File) -> str:
    """The digest of a file that is to be put."""
    try:
        return sha256_file(Path(file.source))
    except OSError as error:
        hint = "nothing was staged; give yourself permission, or take it out of the folder"
        raise UsageError(f"cannot be read: {error.strerror}", place=file.source, hint=hint) from error


def usage(error: Answered) -> EngineError:
    """An answer that says that the request was wrong."""
    return (NotSupported if error.status == 501 else UsageError)(error.fact)


def overrides(signed: Signed) -> dict[str, Any]:
    """What a commit says in the place of what it would."""
    found: dict[str, Any] = {}
    if signed.message:
        found["message"] = signed.message
    if signed.metadata:
        found["metadata"] = dict(signed.metadata)
    return {"commit_overrides": found} if found else {}


def repository_from(item: Mapping[str, Any]) -> Repository:
    """lakeFS' ``Repository``."""
    return Repository(name=item["id"], default_branch=item["default_branch"], time=item["creation_date"])


def commit_from(item: Mapping[str, Any]) -> Commit:
    """lakeFS' ``Commit``."""
    return Commit(
        id=item["id"],
        parents=tuple(parent for parent in item["parents"] or () if parent),
        message=item["message"],
        author=item["committer"],
        time=item["creation_date"],
        metadata=item.get("metadata") or {},
    )


def entry_from(item: Mapping[str, Any]) -> Entry:
    """lakeFS' ``ObjectStats``."""
    if item["path_type"] == "common_prefix":
        return Entry(path=item["path"], is_prefix=True)
    return Entry(
        path=item["path"],
        size=item.get("size_bytes") or 0,
        time=item["mtime"],
        checksum=item["checksum"],
        content_type=item.get("content_type", ""),
        metadata=item.get("metadata") or NOTHING,
    )


def difference_from(item: Mapping[str, Any]) -> Difference:
    """lakeFS' ``Diff``."""
    return Difference(path=item["path"], change=item["type"], size=item.get("size_bytes") or 0)

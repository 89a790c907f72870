"""Runs a spec once for every commit that reaches a branch it reads, the oldest first.

::

    head of a branch --moved--> the commits since the one last seen --each--> the spec, pinned there --run--> seen

What was seen is written when a run is over, so a watch that was stopped, or killed, goes on where it was; a commit
whose run was over, but not yet noted, is answered from the record.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from engine.digest import canonical_json, digest_of
from engine.errors import EngineError, Failed, NotFound, SpecInvalid, UsageError, writing
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import Commit, Lake, RefNotFound, RepositoryNotFound
from engine.lake.refs import at_commit, is_fixed, split_ref
from engine.lake.uri import parse
from engine.pipeline import Finished, Prepared, prepare
from engine.spec.load import LoadedSpec, load
from engine.store.objects import write_once
from engine.wiring import Home, desk_for, open_home

LOCAL_PAUSE = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
RELOAD_SECONDS = 2.0
SPEC, LAKE, RUN = "the spec", "the lake", "the run on"

CarryOut = Callable[[Prepared], Finished]


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """A branch that a spec reads."""

    repository: str
    name: str

    def __str__(self) -> str:
        return f"lakefs://{self.repository}/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Began:
    """A branch is watched from now on, behind ``commit`` (empty: there is no branch yet, or all of it is new)."""

    spec: str
    branch: Branch
    commit: str
    resumed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """A commit has reached a branch and is run now; ``left`` more wait behind it."""

    spec: str
    branch: Branch
    commit: Commit
    left: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A commit's run is over; or ``error`` says why the spec cannot be run on that commit."""

    spec: str
    branch: Branch
    commit: Commit
    prepared: Prepared | None = None
    finished: Finished | None = None
    error: EngineError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewritten:
    """The commit last seen is not in the branch's history any more, so only its head is run."""

    spec: str
    branch: Branch
    last: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """Nothing can be run for now, and why; it is tried again."""

    spec: str
    what: str
    error: EngineError


@dataclass(frozen=True, kw_only=True, slots=True)
class Mended:
    """What there was trouble with is well again."""

    spec: str
    what: str


Notice = Began | Arrived | Ended | Rewritten | Trouble | Mended


def watch(
    specs: Sequence[str],
    carry_out: CarryOut,
    *,
    once: bool = False,
    since: str = "",
    address: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Notice]:
    """Watch the branches that specs read, and say what happens.

    Args:
        carry_out: carries out a prepared run.
        once: end when all that is there was handled; at the first start that is the head of each branch.
        since: at the first start, begin behind this ref and not at the head.
        address: the Ray cluster to run on.

    Raises:
        SpecInvalid, NotFound: when a spec is invalid or missing at the start, or reads no branch.
        UsageError: when another process watches one of them.
    """
    with ExitStack() as stack:
        watched = [Watched(spec, once=once, since=since, address=address) for spec in dict.fromkeys(specs)]
        for item in watched:
            stack.enter_context(item.alone())
        pauses = Pauses(local=all(isinstance(item.home.lake, EmbeddedLake) for item in watched))
        while True:
            moved = False
            for item in watched:
                for notice in item.look(carry_out):
                    moved = moved or isinstance(notice, Ended)
                    yield notice
            if once:
                return
            sleep(pauses.next(moved=moved, troubled=any(item.is_troubled for item in watched)))


class Pauses:
    """How long to wait between two looks: hardly on a local lake, ever longer where nothing happens on a server."""

    def __init__(self, *, local: bool) -> None:
        self.local = local
        self.seconds = FIRST_PAUSE / 2

    def next(self, *, moved: bool, troubled: bool) -> float:
        """Seconds to wait now."""
        if moved or (self.local and not troubled):
            self.seconds = FIRST_PAUSE / 2
        if self.local and not troubled:
            return LOCAL_PAUSE
        self.seconds = min(2 * self.seconds, LONGEST_PAUSE)
        return self.seconds


class Watched:
    """One spec that is watched."""

    def __init__(self, spec: str, *, once: bool = False, since: str = "", address: str | None = None) -> None:
        self.spec = spec
        self.once = once
        self.since = since
        self.address = address
        self.loaded = load(spec)
        self.home: Home = open_home(self.loaded.root)
        self.seen = Seen(self.home.path / "watch", os.path.relpath(self.loaded.path, self.loaded.root))
        self.stamp = stamp_of(self.loaded)
        self.loaded_at = time.monotonic()
        self.begun: set[Branch] = set()
        self.troubles: dict[str, str] = {}
        self.known: tuple[Branch, ...] = ()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the spec, so that no other process watches it.

        Raises:
            UsageError: when one does.
        """
        path = self.seen.folder / f"{digest_of(self.seen.spec)[:32]}.lock"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    hint = "one is enough; end the other first"
                    raise UsageError("another process watches this spec", place=self.spec, hint=hint) from error
                yield

    @property
    def is_troubled(self) -> bool:
        """Whether a lake or a run is in trouble; a spec that is invalid is looked at often."""
        return bool(set(self.troubles) - {SPEC})

    def look(self, carry_out: CarryOut) -> Iterator[Notice]:
        """Handle every commit that has arrived."""
        yield from self.refresh()
        if SPEC in self.troubles:
            return
        try:
            for branch in self.branches():
                yield from self.follow(branch, carry_out)
                if SPEC in self.troubles:
                    return
            yield from self.mended(LAKE)
        except Failed as error:
            yield from self.trouble(LAKE, error)

    def branches(self) -> tuple[Branch, ...]:
        """The branches that the spec reads.

        Raises:
            UsageError: when there is none.
        """
        if not self.known:
            self.known = branches_of(self.loaded, self.home.lake)
        if not self.known:
            hint = "name a branch in a uri of its data"
            raise UsageError("the spec reads no branch, so there is nothing to watch", place=self.spec, hint=hint)
        return self.known

    def refresh(self, *, anew: bool = False) -> Iterator[Notice]:
        """Read the spec again when it may have changed; while it is invalid nothing is run, and nothing is missed."""
        stamp = stamp_of(self.loaded)
        overdue = SPEC in self.troubles and time.monotonic() - self.loaded_at > RELOAD_SECONDS
        if not (anew or overdue or stamp != self.stamp):
            return
        self.stamp, self.loaded_at = stamp, time.monotonic()
        try:
            self.loaded = load(self.spec)
        except (SpecInvalid, NotFound) as error:
            yield from self.trouble(SPEC, error)
            return
        self.stamp, self.known = stamp_of(self.loaded), ()
        yield from self.mended(SPEC)

    def follow(self, branch: Branch, carry_out: CarryOut) -> Iterator[Notice]:
        """Run the commits that a branch got since the last one that was seen."""
        lake = self.home.lake
        try:
            head = lake.resolve(branch.repository, branch.name)
        except (RefNotFound, RepositoryNotFound) as error:
            yield from self.begin(branch, "")
            yield from self.trouble(str(branch), error)
            return
        yield from self.mended(str(branch))
        yield from self.begin(branch, head)
        last = self.seen.last(branch)
        if head == last:
            yield from self.mended(f"{RUN} {branch}")
            return
        commits = commits_since(lake, branch, head, last)
        if commits is None:
            yield Rewritten(spec=self.spec, branch=branch, last=last)
        waiting = commits or [next(lake.log(branch.repository, head))]
        for number, commit in enumerate(waiting, 1):
            yield from self.run(branch, commit, len(waiting) - number, carry_out)
            if self.seen.last(branch) != commit.id:
                return

    def begin(self, branch: Branch, head: str) -> Iterator[Notice]:
        """Note, once, where the watch of a branch begins."""
        if branch in self.begun:
            return
        known = self.seen.knows(branch)
        if not known:
            start = "" if self.once else head
            if self.since:
                start = self.home.lake.resolve(branch.repository, self.since)
            self.seen.note(branch, start)
        self.begun.add(branch)
        yield Began(spec=self.spec, branch=branch, commit=self.seen.last(branch), resumed=known)

    def run(self, branch: Branch, commit: Commit, left: int, carry_out: CarryOut) -> Iterator[Notice]:
        """Run the spec on a commit and note it as seen, unless something broke that has nothing to do with either."""
        yield from self.refresh(anew=True)
        if SPEC in self.troubles or branch not in self.branches():
            return
        yield Arrived(spec=self.spec, branch=branch, commit=commit, left=left)
        try:
            prepared = prepare(pinned(self.loaded, branch, commit.id), desk_for(self.loaded, self.address, self.home))
            finished = carry_out(prepared)
        except (Failed, SpecInvalid) as error:
            yield from self.trouble(f"{RUN} {branch}", error)
            return
        except EngineError as error:
            self.seen.note(branch, commit.id)
            yield Ended(spec=self.spec, branch=branch, commit=commit, error=error)
            return
        yield from self.mended(f"{RUN} {branch}")
        self.seen.note(branch, commit.id)
        yield Ended(spec=self.spec, branch=branch, commit=commit, prepared=prepared, finished=finished)

    def trouble(self, what: str, error: EngineError) -> Iterator[Notice]:
        """Say what is wrong, once."""
        if self.troubles.get(what) != str(error):
            self.troubles[what] = str(error)
            yield Trouble(spec=self.spec, what=what, error=error)

    def mended(self, what: str) -> Iterator[Notice]:
        """Say that what was in trouble is well again."""
        if self.troubles.pop(what, None) is not None:
            yield Mended(spec=self.spec, what=what)


class Seen:
    """The last commit of each branch that a spec was run for, a file each, below ``folder``."""

    def __init__(self, folder: Path, spec: str) -> None:
        self.folder = folder
        self.spec = spec
        self.commits: dict[Branch, str] = {}

    def path(self, branch: Branch) -> Path:
        """Where it is kept."""
        return self.folder / f"{digest_of([self.spec, branch.repository, branch.name])[:32]}.json"

    def knows(self, branch: Branch) -> bool:
        """Whether the branch was ever watched."""
        if branch not in self.commits:
            try:
                self.commits[branch] = str(json.loads(self.path(branch).read_bytes())["commit"])
            except (OSError, ValueError, KeyError, TypeError):
                return False  # never, or damaged, which is as good as never
        return True

    def last(self, branch: Branch) -> str:
        """The last commit; empty when there was none."""
        return self.commits[branch] if self.knows(branch) else ""

    def note(self, branch: Branch, commit: str) -> None:
        """Keep a commit as the last one."""
        document = {"spec": self.spec, "repository": branch.repository, "branch": branch.name, "commit": commit}
        write_once(self.path(branch), canonical_json(document))
        self.commits[branch] = commit


def branches_of(loaded: LoadedSpec, lake: Lake) -> tuple[Branch, ...]:
    """The branches that a spec reads; a name that the lake does not have may become one."""
    found: dict[Branch, bool] = {}
    for source in loaded.spec.data.values():
        uri = parse(source.uri)
        branch = Branch(repository=uri.repository, name=split_ref(uri.ref)[0])
        if branch not in found:
            found[branch] = not is_fixed(lake, branch.repository, branch.name)
    return tuple(branch for branch, moves in found.items() if moves)


def commits_since(lake: Lake, branch: Branch, head: str, last: str) -> list[Commit] | None:
    """The commits that lead from ``last`` to ``head``, the oldest first; nothing when none do."""
    found: list[Commit] = []
    if not last:
        return found
    for commit in lake.log(branch.repository, head, first_parent=True):
        if commit.id == last:
            return found[::-1]
        found.append(commit)
    return None


def pinned(loaded: LoadedSpec, branch: Branch, commit: str) -> LoadedSpec:
    """A spec that reads a branch as it was at a commit."""

    def at(text: str) -> str:
        uri = parse(text)
        if (uri.repository, split_ref(uri.ref)[0]) != (branch.repository, branch.name):
            return text
        return str(replace(uri, ref=at_commit(uri.ref, commit)))

    data = {name: source.model_copy(update={"uri": at(source.uri)}) for name, source in loaded.spec.data.items()}
    return replace(loaded, spec=loaded.spec.model_copy(update={"data": data}))


def stamp_of(loaded: LoadedSpec) -> tuple[object, ...]:
    """What tells whether one of a spec's files was changed."""
    return tuple(looks(path) for path in dict.fromkeys((loaded.path, *loaded.files)))


def looks(path: Path) -> tuple[int, int, int] | None:
    """A file's time, size and number, if it is there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

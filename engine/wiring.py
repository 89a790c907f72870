"""The one place that chooses concrete adapters: which lake, which store, which executor.

What it wires is imported when it is asked for: a command of the lake needs neither specs nor plans.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UsageError
from engine.lake.protocol import Lake
from engine.spec.project import home_path, project_root, source_roots
from engine.store.durable import scratch_folder
from engine.store.objects import ObjectStore
from engine.store.sqlite import is_writable

if TYPE_CHECKING:
    from engine.execute.cache import StepCache
    from engine.execute.protocol import Executor, Report
    from engine.lake.embedded.lake import EmbeddedLake
    from engine.lake.hooks import Actions
    from engine.pipeline import Desk
    from engine.promotion import Office
    from engine.record.anchors import Harbour
    from engine.record.index import RunIndex
    from engine.record.model import RunRecord
    from engine.record.parts import Parts
    from engine.record.store import RecordStore
    from engine.record.verify import Archive
    from engine.registry.protocol import Registry
    from engine.resolve.closure import SourceIndex
    from engine.serve.dataplane import Source
    from engine.spec.load import LoadedSpec
    from engine.spec.model import Cluster

LOG = logging.getLogger("engine")


OWNED_SECONDS = 600.0
"""Seconds without a run after which a cluster for several runs ends, should its owner never end it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Everything that Engine keeps for a project. ``path`` is ``ENGINE_HOME``, by default ``.engine`` in the root.

    ``server`` is the address of the lakeFS server that ``lake`` is on; without one it is the embedded lake.
    """

    path: Path
    root: Path
    store: ObjectStore
    lake: Lake
    server: str | None = None

    @property
    def registry(self) -> Registry:
        """The models."""
        from engine.registry.sqlite import SqliteRegistry

        return SqliteRegistry(self.path / "registry.db")

    @property
    def records(self) -> RecordStore:
        """The runs."""
        from engine.record.store import RecordStore

        return RecordStore(self.path)

    @property
    def runs(self) -> RunIndex:
        """The index of the runs."""
        from engine.record.index import RunIndex

        return RunIndex(self.path, self.records, self.store)

    @property
    def cache(self) -> StepCache:
        """What steps gave before."""
        from engine.execute.cache import StepCache

        return StepCache(self.path, self.store)

    @property
    def index(self) -> SourceIndex:
        """What the project's source files import."""
        from engine.resolve.closure import SourceIndex

        return SourceIndex(source_roots(self.root), self.path / "cache" / "imports.json")

    @property
    def archive(self) -> Archive:
        """All that was recorded, to be verified. The history of a lake on a server is that server's own to check."""
        from engine.record.anchors import anchors
        from engine.record.verify import Archive

        lake = None if self.server else embedded_lake(self.path)
        damage = (lambda: lake.fsck(hashing=False)) if lake else (lambda: iter(()))
        return Archive(
            home=self.path,
            store=self.store,
            records=self.records,
            registry=self.registry,
            lake=self.lake,
            lake_damage=damage,
            anchors=lambda: anchors(self.harbour),
        )

    @property
    def harbour(self) -> Harbour:
        """Where the ledger's hashes are written down outside."""
        from engine.record.anchors import Harbour

        return Harbour(home=self.path, root=self.root, lake=self.lake)

    def office(self, judge: Callable[[RunRecord], RunRecord]) -> Office:
        """What a promotion works with. ``judge`` is as :func:`judged_again` for a report."""
        from engine.promotion import Office

        return Office(
            home=self.path,
            store=self.store,
            records=self.records,
            registry=self.registry,
            lake=self.lake,
            harbour=self.harbour,
            judge=judge,
        )

    def rest(self) -> None:
        """Write down what each database is now, byte for byte, unless somebody writes to it: for ``engine verify``."""
        from engine.store.sums import note_sum

        lasting = (self.path / "registry.db", self.path / "lake" / "lake.db", self.store.packs.index)
        for path in (*lasting, *(self.path / "cache").rglob("*.db")):
            note_sum(path)

    def pins(self) -> set[str]:
        """Digests and commit ids that the lake must keep, whatever its branches and tags say."""
        from engine.record.pins import pins

        return pins(self.path)


def open_home(root: Path) -> Home:
    """The project's state: on the lakeFS server that the environment names, else all here.

    Nothing is created before something is written. What a promotion that was killed had begun is ended first.

    Raises:
        UsageError: for a home that is no folder, and a server that is half configured.
    """
    from engine.lake.credentials import credentials

    path = home_path(root)
    if path.exists() and not path.is_dir():
        raise UsageError("not a folder", place=f"ENGINE_HOME {path}", hint="set it to a folder, or unset it")
    store = ObjectStore(path / "objects")
    found = credentials(os.environ, Path(os.path.expanduser("~")))  # noqa: PTH111  (not everybody has a home)
    if found is None:
        home = Home(path=path, root=root, store=store, lake=embedded_lake(path, hooks_of(path, root)))
    else:
        from engine.lake.lakefs import Server
        from engine.lake.remote import RemoteLake

        lake = RemoteLake(Server(found), store, path / "cache" / "lakefs")
        home = Home(path=path, root=root, store=store, lake=lake, server=found.endpoint)
    end_what_was_begun(home)
    return home


def end_what_was_begun(home: Home) -> None:
    """Finish or undo the promotions of processes that were killed in the midst of them, and say so."""
    from engine.registry.pending import has_pending

    if has_pending(home.path / "registry.db") and is_writable(home.path):
        from engine.promotion import settle

        for said in settle(home.office(lambda record: record)):
            LOG.warning(said)
        home.rest()


def embedded_lake(path: Path, hooks: Actions | None = None) -> EmbeddedLake:
    """The lake in the home ``path``."""
    from engine.lake.embedded.lake import EmbeddedLake

    return EmbeddedLake(path / "lake", ObjectStore(path / "objects"), hooks)


def hooks_of(path: Path, root: Path, *, background: bool = False) -> Actions:
    """What runs the hooks of the lake in the home ``path``; the one that validates data needs no server.

    Args:
        background: do not wait for ``post-`` hooks.
    """
    from engine.lake.hooks import VALIDATE, Actions

    def validate(body: Mapping[str, Any], query: Mapping[str, str]) -> tuple[int, str]:
        from engine.data_check import Grounds, answer

        return answer(body, query, Grounds(lake=open_home(root).lake, root=root, home=path))

    return Actions(path / "actions", {VALIDATE: validate}, background=background)


def home_here() -> Home:
    """The state of the project that the working folder is in."""
    return open_home(project_root(Path.cwd() / "spec"))


def executor(inline: bool, address: str | None, home: Path, cluster: Cluster | None, *, owned: bool) -> Executor:
    """The executor that the user asked for: Ray, unless ``inline``; on the cluster that stays, where there is one.

    Args:
        cluster: whether a run starts a cluster that stays; nothing does without.
        owned: a run starts one anyway, which stays as long as this process.
    """
    if inline:
        from engine.execute.inline import InlineExecutor

        return InlineExecutor()
    if address is None:
        from engine.execute.warm import Terms, WarmExecutor

        if cluster is not None and cluster.autostart:
            return WarmExecutor(terms=Terms(home=home, autostart=cluster.idle))
        return WarmExecutor(terms=Terms(home=home, autostart=OWNED_SECONDS if owned else None, owned=owned))
    from engine.execute.ray_executor import RayExecutor

    return RayExecutor(address=address)


def serving(home: Home, device: str = "cpu") -> Source:
    """Where a server takes versions from; each is served as the newest operation that was recorded for it says."""
    import hmac

    from engine.serve.dataplane import Source
    from engine.serve.settings import settings_of
    from engine.steps.seals import home_key

    records = home.records
    return Source(
        registry=home.registry,
        store=home.store,
        settings_of=lambda version: settings_of(records.newest_operation(version.runs)),
        logs=home.path / "predictions",
        log_key=hmac.digest(home_key(home.path), b"prediction log", "sha256"),
        device=device,
    )


def desk_for(loaded: LoadedSpec, address: str | None = None, home: Home | None = None, *, owned: bool = False) -> Desk:
    """What a run of ``loaded`` works with, in its project's home unless another is given.

    Args:
        owned: it is one of several runs of this process, which share a cluster.
    """
    home = home or open_home(loaded.root)
    return laid_out(home, home.index, loaded.path.parent, address, loaded.spec.cluster, owned=owned)


def laid_out(
    home: Home,
    index: SourceIndex,
    folder: Path,
    address: str | None,
    cluster: Cluster | None = None,
    *,
    owned: bool = False,
) -> Desk:
    """What a run works with in ``home``, for a spec in ``folder`` and the sources that ``index`` reads."""
    from engine.execute.cache import settled
    from engine.pipeline import Desk
    from engine.resolve.lookup import World

    world = World(lake=home.lake, registry=home.registry, folder=folder, index=index, cache=home.path / "cache")
    cache = home.cache
    return Desk(
        world=world,
        store=home.store,
        records=home.records,
        registry=world.registry,
        executor=lambda inline: executor(inline, address, home.path, cluster, owned=owned),
        settled=lambda plan: settled(plan, cache),
        note=home.runs.note,
        rest=home.rest,
    )


@contextmanager
def bench(home: Home, parts: Parts, address: str | None = None) -> Iterator[tuple[Desk, Path]]:
    """A home of its own in which a recorded run can be executed from nothing, and the folder of its sources.

    It has the run's data, baselines and sources and nothing else, and is gone afterwards.

    Raises:
        NotFound, DigestMismatch: when something of that is not there as it was.
        StorageFull, StorageUnwritable: when the disk says so.
    """
    from engine.record.parts import lay_out
    from engine.record.reproduce import take_out
    from engine.resolve.closure import SourceIndex

    with scratch_folder(home.path / "tmp", "reproduce-") as folder:
        root = folder / "sources"
        root.mkdir()
        lay_out(parts.modules, home.store, root)
        own = Home(path=folder, root=root, store=ObjectStore(folder / "objects"), lake=embedded_lake(folder))
        take_out(parts, home.store, own.store)
        yield laid_out(own, SourceIndex((root,)), root, address), root


def judged_again(record: RunRecord, home: Home, report: Report, *, inline: bool = False) -> RunRecord:
    """Carry a recorded run out again with its baselines pinned to what they mean now: only its gates are new work.

    Sources, data and spec are the recorded ones, whatever became of the project's files.

    Raises:
        CannotJudge: when something that the run depends on is another version here, so that it would be trained anew.
        NotFound, DigestMismatch: when something of the run is not there as it was.
    """
    from dataclasses import replace

    from engine.pipeline import prepare_parts, run
    from engine.promotion import CannotJudge
    from engine.record.parts import lay_out, parts_of
    from engine.record.reproduce import changes
    from engine.resolve.closure import SourceIndex
    from engine.resolve.lookup import pin_model
    from engine.resolve.model import GitState

    parts = parts_of(record, home.store)
    now = {ref: pin_model(parts.spec.name, ref, home.registry) for ref in parts.models}
    with scratch_folder(home.path / "tmp", "judge-") as folder:
        lay_out(parts.modules, home.store, folder)
        desk = laid_out(home, SourceIndex((folder,)), folder, None)
        prepared = prepare_parts(replace(parts, models=now), desk, folder)
        changed = list(changes(parts, prepared.resolved))
        if changed:
            raise CannotJudge(record, changed)
        code, shown = record.summary["pins"]["code"], record.summary["spec"]
        loaded = replace(prepared.loaded, overrides=tuple(record.summary["overrides"]), shown=shown)
        resolved = replace(prepared.resolved, shown=shown)
        git = GitState(commit=code["commit"], dirty=code["dirty"])
        again = replace(prepared, loaded=loaded, resolved=resolved, git=git)
        return run(again, report, inline=inline).record

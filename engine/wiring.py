"""The one place that chooses concrete adapters: which lake, which store, which executor.

What it wires is imported when it is asked for: a command of the lake needs neither specs nor plans.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UsageError
from engine.lake.protocol import Lake
from engine.spec.project import project_root
from engine.store.durable import scratch_folder
from engine.store.objects import ObjectStore

if TYPE_CHECKING:
    from engine.execute.cache import StepCache
    from engine.execute.protocol import Executor
    from engine.lake.embedded.lake import EmbeddedLake
    from engine.lake.hooks import Actions
    from engine.pipeline import Desk
    from engine.record.index import RunIndex
    from engine.record.parts import Parts
    from engine.record.store import RecordStore
    from engine.record.verify import Archive
    from engine.registry.registry import Registry
    from engine.resolve.closure import SourceIndex
    from engine.serve.dataplane import Source
    from engine.spec.load import LoadedSpec


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
        from engine.registry.registry import Registry

        return Registry(self.path / "registry.db")

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
        from engine.spec.surroundings import source_roots

        return SourceIndex(source_roots(self.root), self.path / "cache" / "imports.json")

    @property
    def archive(self) -> Archive:
        """All that was recorded, to be verified. The history of a lake on a server is that server's own to check."""
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


def home_path(root: Path) -> Path:
    """Where the state of the project at ``root`` is kept."""
    given = os.environ.get("ENGINE_HOME")
    return Path(given).expanduser().absolute() if given else root / ".engine"


def open_home(root: Path) -> Home:
    """The project's state: on the lakeFS server that the environment names, else all here.

    Nothing is created before something is written.

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
        return Home(path=path, root=root, store=store, lake=embedded_lake(path, hooks_of(path, root)))
    from engine.lake.lakefs import Server
    from engine.lake.remote import RemoteLake

    lake = RemoteLake(Server(found), store, path / "cache" / "lakefs")
    return Home(path=path, root=root, store=store, lake=lake, server=found.endpoint)


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


def executor(inline: bool, address: str | None) -> Executor:
    """The executor that the user asked for: Ray, unless ``inline``."""
    if inline:
        from engine.execute.inline import InlineExecutor

        return InlineExecutor()
    from engine.execute.ray_executor import RayExecutor

    return RayExecutor(address=address)


def serving(home: Home) -> Source:
    """Where a server takes versions from; each is served as the newest operation of its first run says."""
    import hmac

    from engine.serve.dataplane import Source
    from engine.serve.settings import settings_of
    from engine.steps.seals import home_key

    records = home.records
    return Source(
        registry=home.registry,
        store=home.store,
        settings_of=lambda version: settings_of(records.operation(version.runs[0])),
        logs=home.path / "predictions",
        log_key=hmac.digest(home_key(home.path), b"prediction log", "sha256"),
    )


def desk_for(loaded: LoadedSpec, address: str | None = None, home: Home | None = None) -> Desk:
    """What a run of ``loaded`` works with, in its project's home unless another is given."""
    home = home or open_home(loaded.root)
    return laid_out(home, home.index, loaded.path.parent, address)


def laid_out(home: Home, index: SourceIndex, folder: Path, address: str | None) -> Desk:
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
        executor=lambda inline: executor(inline, address),
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

"""The one place that chooses concrete adapters: which lake, which store, which executor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UsageError
from engine.execute.cache import StepCache, settled
from engine.execute.protocol import Executor
from engine.lake.protocol import Lake
from engine.pipeline import Desk
from engine.record.store import RecordStore
from engine.registry.registry import Registry
from engine.resolve.closure import SourceIndex
from engine.resolve.lookup import World
from engine.spec.load import LoadedSpec, project_root
from engine.spec.surroundings import source_roots
from engine.store.objects import ObjectStore

if TYPE_CHECKING:
    from engine.lake.hooks import Actions


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Everything that Engine keeps for a project. ``path`` is ``ENGINE_HOME``, by default ``.engine`` in the root."""

    path: Path
    root: Path
    store: ObjectStore
    lake: Lake
    registry: Registry
    records: RecordStore
    cache: StepCache

    @property
    def index(self) -> SourceIndex:
        """What the project's source files import."""
        return SourceIndex(source_roots(self.root), self.path / "cache" / "imports.json")


def home_path(root: Path) -> Path:
    """Where the state of the project at ``root`` is kept."""
    given = os.environ.get("ENGINE_HOME")
    return Path(given).expanduser().absolute() if given else root / ".engine"


def open_home(root: Path) -> Home:
    """The project's state. Nothing is created before something is written."""
    from engine.lake.embedded.lake import EmbeddedLake

    path = home_path(root)
    if path.exists() and not path.is_dir():
        raise UsageError("not a folder", place=f"ENGINE_HOME {path}", hint="set it to a folder, or unset it")
    store = ObjectStore(path / "objects")
    return Home(
        path=path,
        root=root,
        store=store,
        lake=EmbeddedLake(path / "lake", store, hooks_of(path, root)),
        registry=Registry(path / "registry.db"),
        records=RecordStore(path),
        cache=StepCache(path, store),
    )


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
    from engine.execute.ray_graph import RayExecutor

    return RayExecutor(address=address)


def desk_for(loaded: LoadedSpec, address: str | None = None) -> Desk:
    """What a run of ``loaded`` works with."""
    home = open_home(loaded.root)
    world = World(
        lake=home.lake,
        registry=home.registry,
        folder=loaded.path.parent,
        index=home.index,
        cache=home.path / "cache",
    )
    return Desk(
        world=world,
        store=home.store,
        records=home.records,
        registry=home.registry,
        executor=lambda inline: executor(inline, address),
        settled=lambda plan: settled(plan, home.cache),
    )

"""The one effectful part of resolving: answer every question, each ref once."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, UsageError
from engine.lake.listing import files_at, is_file
from engine.lake.protocol import Lake
from engine.lake.uri import parse
from engine.registry.baseline import meant
from engine.registry.protocol import Registry
from engine.resolve.closure import SourceIndex, closure
from engine.resolve.git import git
from engine.resolve.installed import keep, survey
from engine.resolve.model import Answers, Closure, DataFile, DataPin, GitState, ModelPin, Platform
from engine.resolve.questions import CodeQuestion, DataQuestion, Questions
from engine.spec.model import KeyPath
from engine.spec.positions import Positions
from engine.spec.surroundings import read_schema
from engine.spec.vocabulary import format_of


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Where answers come from. ``folder`` is the spec's, ``cache`` a folder for what is quick to find again."""

    lake: Lake
    registry: Registry
    folder: Path
    index: SourceIndex
    cache: Path


def look_up(asked: Questions, world: World, schemas: Mapping[str, Any], positions: Positions) -> Answers:
    """Answer everything.

    Args:
        schemas: for each name in ``asked.schemas``, what the spec says (a path, or the schema itself).
        positions: so that an error can say which line of the spec it is about.

    Raises:
        EngineError: with the place of the question that has no answer.
    """

    @contextmanager
    def at(path: KeyPath) -> Iterator[None]:
        try:
            yield
        except EngineError as error:
            error.place = error.place or str(positions.place(path))
            raise

    installed = survey(world.cache)
    data: dict[str, DataPin] = {}
    for item in asked.data:
        with at(("data", item.name, "uri")):
            data[item.name] = pin_data(item, world.lake)
    code: dict[str, Closure] = {}
    for question in asked.code:
        with at(place_of(question)):
            code[question.key] = closure(question, world.index, installed)
    models: dict[str, ModelPin] = {}
    for ref in asked.models:
        with at(("evaluate", "gates")):
            models[ref] = pin_model(asked.model, ref, world.registry)
    contents = {name: dict(read_schema(schemas[name], world.folder).content) for name in asked.schemas}
    return Answers(data=data, schemas=contents, code=code, models=models, platform=this_platform())


def remember(world: World) -> None:
    """Keep what was found out on the way for the next time, now that all questions have answers."""
    world.index.save()
    keep(world.cache)


def place_of(question: CodeQuestion) -> KeyPath:
    """The section of the spec that a code question comes from."""
    sections: Mapping[str | None, KeyPath] = {"trainer": ("train", "uses"), "transform": ("transform",)}
    return sections.get(question.kind, ("monitor",) if question.kind == "detector" else ())


def pin_data(question: DataQuestion, lake: Lake, at: str = "") -> DataPin:
    """A source's commit and files.

    Args:
        at: read them here instead, be it with what is staged on a branch.

    Raises:
        NotFound: for an unknown repository, ref or path.
        UsageError: for a folder of mixed or unknown formats.
    """
    uri = parse(question.uri)
    commit = lake.resolve(uri.repository, at or uri.ref)
    found = tuple(
        DataFile(path=path, digest=entry.digest, size=entry.size)
        for path, entry in files_at(uri, at or commit, lake).items()
    )
    formats = {question.format or format_of(uri.path if is_file(uri) else file.path) for file in found}
    if len(formats) != 1 or None in formats:
        names = ", ".join(sorted(str(name or "unknown") for name in formats))
        raise UsageError(
            f"the files under {uri} are of {names} format", hint="write `format:`, or name one kind of file"
        )
    return DataPin(uri=str(uri), commit=commit, files=found, format=str(formats.pop()))


def pin_model(name: str, ref: str, registry: Registry) -> ModelPin:
    """What a baseline means now: an alias, version or run of this model, or of another (``other@alias``)."""
    found, known = meant(name, ref, registry)
    if found is None:
        return ModelPin(known=known)
    return ModelPin(version=found.version, digest=found.digest, known=True)


def this_platform() -> Platform:
    """The interpreter and machine that this process runs on."""
    major, minor, _ = platform.python_version_tuple()
    return Platform(
        implementation=platform.python_implementation(),
        python=f"{major}.{minor}",
        system=platform.system(),
        machine=platform.machine(),
    )


def git_state(root: Path) -> GitState:
    """The project's commit, if git knows it. Without git, or outside a repository, nothing is known."""
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        return GitState()
    return GitState(commit=commit, dirty=bool(git(root, "status", "--porcelain", "--untracked-files=no")))


def schemas_in(spec_data: Mapping[str, Any]) -> dict[str, Any]:
    """What each source of a spec says of its schema."""
    return {name: source.schema_ for name, source in spec_data.items() if source.schema_ is not None}

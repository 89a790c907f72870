"""The resolved spec: what a run is, to the byte, and the facts that stand beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.digest import digest_of, manifest_digest
from engine.spec.positions import Positions

if TYPE_CHECKING:
    from engine.spec.model import Spec


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One object of a source: its path below the source's, its SHA-256 and its length in bytes."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DataPin:
    """A source at a commit. Only ``digest``, the manifest of ``files``, is identity; the rest is fact."""

    uri: str
    commit: str
    files: tuple[DataFile, ...]
    format: str

    @property
    def manifest(self) -> dict[str, str]:
        """Path -> SHA-256."""
        return {file.path: file.digest for file in self.files}

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return manifest_digest(self.manifest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Closure:
    """The code behind one module: its own and the project's modules that it imports, and what else they need.

    ``modules`` maps a dotted name to the SHA-256 of its source; ``distributions`` a name to its version.
    """

    modules: Mapping[str, str]
    distributions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """The interpreter and the machine, as far as results depend on them."""

    implementation: str
    python: str
    system: str
    machine: str

    def document(self) -> dict[str, str]:
        """As JSON."""
        return {
            "implementation": self.implementation,
            "python": self.python,
            "system": self.system,
            "machine": self.machine,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPin:
    """What a baseline ref meant: a version and its model's digest, or ``None`` for both.

    ``known`` tells whether a version is missed there; only where none is, a missing baseline is forgiven.
    """

    version: int | None = None
    digest: str | None = None
    known: bool = False

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {"version": self.version, "digest": self.digest, "known": self.known}


@dataclass(frozen=True, kw_only=True, slots=True)
class GitState:
    """The project's commit and whether files differ from it; both are facts, never identity."""

    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """All that :func:`engine.resolve.questions.questions` asks, answered."""

    data: Mapping[str, DataPin]
    schemas: Mapping[str, Mapping[str, Any]]
    code: Mapping[str, Closure]
    models: Mapping[str, ModelPin]
    platform: Platform


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedSpec:
    """What will be run. ``run_id`` is the SHA-256 of the canonical JSON of ``identity``, and of nothing else.

    ``operation`` may change without another run; ``answers`` hold the pins and the facts beside them.
    """

    spec: Spec
    identity: Mapping[str, Any]
    operation: Mapping[str, Any]
    answers: Answers
    positions: Positions = field(default=Positions())
    shown: str = ""

    @property
    def run_id(self) -> str:
        """64 hexadecimal digits."""
        return digest_of(self.identity)

    @property
    def modules(self) -> dict[str, str]:
        """Every module of every closure with the SHA-256 of its source."""
        found: dict[str, str] = {}
        for closure in self.answers.code.values():
            found.update(closure.modules)
        return dict(sorted(found.items()))

    @property
    def environment(self) -> dict[str, object]:
        """The platform and every distribution that the run depends on, with its version."""
        found: dict[str, str] = {}
        for closure in self.answers.code.values():
            found.update(closure.distributions)
        return {**self.answers.platform.document(), "distributions": dict(sorted(found.items()))}

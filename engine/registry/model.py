"""What the registry knows, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from engine.errors import NotFound, Refused, UsageError

NAME = re.compile(r"^[a-z0-9][a-z0-9-]{1,62}$")
ALIAS = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")
TAG = re.compile(r"^[A-Za-z_][A-Za-z0-9_./-]{0,62}$")
ALIASES = ("candidate", "canary", "shadow", "production")
"""The aliases that mean something to the rest of Engine; any other name may be one, too."""
GENESIS = "0" * 64
NOTHING: Mapping[str, str] = MappingProxyType({})
How = Literal["promoted", "rolled back", "set"]


class ModelNotFound(NotFound):
    """No registered model, version or alias has that name."""

    code = "model-not-found"


class AliasMoved(Refused):
    """What an alias meant when a decision was prepared is not what it means now."""

    code = "alias-moved"


class VersionInUse(Refused):
    """A version cannot be retired while an alias names it."""

    code = "version-in-use"


class VersionRetired(Refused):
    """A version that was taken out of use cannot get an alias."""

    code = "version-retired"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRef:
    """``NAME``, ``NAME@ALIAS`` or ``NAME:VERSION``. A bare name means the newest version that is in use."""

    name: str
    alias: str | None = None
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Read a model reference as a user types it.

        Raises:
            UsageError: when it is none.
        """
        name, at, alias = text.partition("@")
        name, colon, version = name.partition(":") if not at else (name, "", "")
        hint = "write NAME, NAME@ALIAS or NAME:VERSION, as in late-arrivals@production"
        if not NAME.match(name):
            raise UsageError(f'"{text}" is not a model', hint=hint)
        if at and not ALIAS.match(alias):
            raise UsageError(f'"{alias}" is not an alias', hint=hint)
        if colon and not (version.isascii() and version.isdigit() and len(version) < 16):
            raise UsageError(f'"{version}" is not a version number', hint=hint)
        return cls(name=name, alias=alias or None, version=int(version) if version else None)

    def __str__(self) -> str:
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        return f"{self.name}:{self.version}" if self.version is not None else self.name


def baseline_ref(name: str, ref: str) -> ModelRef:
    """What a spec's ``baseline`` names: an alias or version of its own model, or another model's, written out."""
    if "@" in ref or ":" in ref:
        return ModelRef.parse(ref)
    return ModelRef.parse(f"{name}:{ref}" if ref.isdigit() else f"{name}@{ref}")


def require_alias(text: str) -> str:
    """``text``, if an alias may be called so.

    Raises:
        UsageError: when it may not.
    """
    if not ALIAS.match(text):
        hint = (
            f"letters a-z, digits, `-`, `_` and `.`, a letter first; {', '.join(ALIASES)} have a meaning of their own"
        )
        raise UsageError(f'"{text}" is not an alias', hint=hint)
    return text


class ModelVersion(NamedTuple):
    """One (name, model digest). ``runs`` made or confirmed these bytes, the first of them first.

    It is a tuple, as a list of a thousand of them is then made in a quarter of the time.
    """

    name: str
    version: int
    digest: str
    created: str
    runs: tuple[str, ...]
    package: str
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = NOTHING
    description: str = ""
    retired: bool = False

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What a version came from: the run, its pins of data (name -> uri, commit, digest), and its code."""

    run: str
    record: str
    data: Mapping[str, Mapping[str, str]]
    code: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One change: its number, the hash of the entry before it, what happened, and the hash of all that."""

    number: int
    previous: str
    event: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The ledger's last entry. The number counts every change of the registry, so it tells whether anything changed."""

    number: int = 0
    digest: str = GENESIS


@dataclass(frozen=True, kw_only=True, slots=True)
class Flaw:
    """Something in the registry that does not follow from its ledger: which, and what is wrong with it."""

    name: str
    fact: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Why a version may have an alias.

    Attributes:
        run, record: the execution that judged it, and the digest of its record; empty when there was none.
        gates: the verdicts, each with name, value, limit and reason.
        baselines: what it was compared with, by the ref in its spec: version and digest, or none.
        objections: what spoke against it; a decision with objections was forced.
    """

    run: str = ""
    record: str = ""
    gates: tuple[Mapping[str, Any], ...] = ()
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    objections: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As the ledger has it; ``run`` and ``record`` only when there are any."""
        found = asdict(self)
        found["gates"], found["objections"] = list(self.gates), list(self.objections)
        return {key: value for key, value in found.items() if value or key not in ("run", "record")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Merge:
    """A branch of the lake that goes with a model: ``commit``, the head of ``source``, is merged into ``destination``.

    ``before`` is where the destination was when that was decided.
    """

    repository: str
    source: str
    commit: str
    destination: str
    before: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """That an alias is to name another version.

    Attributes:
        id: names the decision wherever it left something; hexadecimal digits.
        before: what the alias names until then.
        assumed: refs of aliases (``NAME@ALIAS``) and the versions that they must still name when it is carried out.
        merge: the data that is to become the main line's with it, as one.
    """

    id: str
    name: str
    alias: str
    version: int
    before: int | None
    how: How
    why: str = ""
    forced: bool = False
    evidence: Evidence = field(default_factory=Evidence)
    assumed: Mapping[str, int | None] = field(default_factory=dict)
    merge: Merge | None = None

    def document(self) -> dict[str, Any]:
        """All of it as JSON; :func:`decision_from` reads it back."""
        return asdict(self)


def decision_from(document: Mapping[str, Any]) -> Decision:
    """The decision that :meth:`Decision.document` wrote."""
    evidence, merge = dict(document["evidence"]), document["merge"]
    evidence.update(gates=tuple(evidence["gates"]), objections=tuple(evidence["objections"]))
    return Decision(**{**document, "evidence": Evidence(**evidence), "merge": Merge(**merge) if merge else None})


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """A decision that is being carried out: ``begun``, or ``moved`` by the ledger's entry ``head`` and not anchored."""

    decision: Decision
    state: Literal["begun", "moved"]
    head: Head = Head()


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """One move of an alias, as the ledger tells it, with its evidence."""

    entry: LedgerEntry
    alias: str
    version: int
    before: int | None
    how: How
    who: str
    when: str
    why: str
    forced: bool
    evidence: Evidence
    data: Mapping[str, Any] | None

"""What the registry knows, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.errors import NotFound, UsageError

NAME = re.compile(r"^[a-z0-9][a-z0-9-]{1,62}$")
ALIAS = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")


class ModelNotFound(NotFound):
    """No registered model, version or alias has that name."""

    code = "model-not-found"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRef:
    """``NAME``, ``NAME@ALIAS`` or ``NAME:VERSION``. A bare name means the newest version."""

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
        if colon and not version.isdigit():
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """One (name, model digest). ``runs`` made or confirmed these bytes, the first of them first."""

    name: str
    version: int
    digest: str
    created: str
    runs: tuple[str, ...]
    package: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One change: its number, the hash of the entry before it, what happened, and the hash of all that."""

    number: int
    previous: str
    event: Mapping[str, object] = field(default_factory=dict)
    digest: str = ""

"""What a spec's ``baseline`` means now: an alias, a version, or a run that made one."""

from __future__ import annotations

import re
from typing import Protocol

from engine.errors import UsageError
from engine.registry.model import ALIAS, ModelNotFound, ModelRef, ModelVersion, baseline_ref

RUN = re.compile(r"^[0-9a-f]{6,64}$")


class Versions(Protocol):
    """What is asked of a registry."""

    def models(self) -> list[str]:
        """The names of the models."""

    def versions(self, name: str) -> list[ModelVersion]:
        """The versions of a model, each with the runs that made it."""

    def find(self, ref: ModelRef) -> ModelVersion | None:
        """The version that ``ref`` means now."""

    def has_meant(self, ref: ModelRef) -> bool:
        """Whether ``ref`` has ever meant one."""


def meant(name: str, ref: str, registry: Versions) -> tuple[ModelVersion | None, bool]:
    """The version that ``ref`` means for the model ``name``, and whether it has ever meant one.

    An alias or a version comes before a run whose id begins so.

    Raises:
        ModelNotFound: for a run that made no version of this model.
        UsageError: when runs of several versions begin so.
    """
    is_run = bool(RUN.match(ref))
    wanted = None if is_run and not ref.isdigit() and not ALIAS.match(ref) else baseline_ref(name, ref)
    found = registry.find(wanted) if wanted else None
    if found is not None:
        return found, True
    if is_run:
        made = made_by(name, ref, registry)
        if made is not None:
            return made, True
    if wanted is None:
        raise ModelNotFound(f"version of {name} made by a run", ref, hint="a run whose gates refused makes none")
    return None, registry.has_meant(wanted)


def alias_in(name: str, ref: str, registry: Versions) -> ModelRef | None:
    """The alias that ``ref`` is, if it is one: neither a version nor a run."""
    if RUN.match(ref) and not ref.isdigit() and not ALIAS.match(ref):
        return None
    found = baseline_ref(name, ref)
    is_run = bool(RUN.match(ref)) and not registry.has_meant(found)
    return found if found.alias is not None and not is_run else None


def made_by(name: str, run: str, registry: Versions) -> ModelVersion | None:
    """The version that a run made, by the beginning of its id.

    Raises:
        UsageError: when there are several.
    """
    versions = registry.versions(name) if name in registry.models() else []
    found = [version for version in versions if any(made.startswith(run) for made in version.runs)]
    if len(found) > 1:
        numbers = ", ".join(str(version.version) for version in found)
        raise UsageError(f"runs of the versions {numbers} of {name} begin with {run}", hint="write more of the id")
    return found[0] if found else None

"""Which version answers: aliases, a share for the canary, and a shadow that is asked behind everybody's back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.errors import suggestion
from engine.registry.model import ModelRef
from engine.serve.batching import Batcher
from engine.serve.model import Rejected

CANARY, SHADOW, PRODUCTION = "canary", "shadow", "production"
NEWEST = "newest"


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A model that is served: the batcher behind each alias and each version number; ``main`` answers by default."""

    name: str
    main: str
    aliases: Mapping[str, Batcher]
    versions: Mapping[int, Batcher]

    def choose(self, version: str, key: str) -> tuple[Batcher, str]:
        """The batcher for a request, and the alias (or version) that led to it.

        Raises:
            Rejected: when there is no such version here.
        """
        if version:
            return self.named(version)
        main = self.aliases.get(self.main)
        if main is None:
            raise Rejected(503, f"{self.name} is not ready", kind="not-ready")
        canary = self.aliases.get(CANARY)
        if canary is not None and self.main == PRODUCTION and canary is not main:
            share = main.loaded.settings.canary
            if share and place_of(self.name, key) < share:
                return canary, CANARY
        return main, self.main

    def named(self, version: str) -> tuple[Batcher, str]:
        """The batcher for a version that was asked for by its number or alias.

        Raises:
            Rejected: when it is not here.
        """
        found = (
            self.versions.get(int(version)) if version.isdigit() and len(version) < 10 else self.aliases.get(version)
        )
        if found is None:
            known = [str(number) for number in sorted(self.versions)] + sorted(self.aliases)
            raise Rejected(
                404,
                f'no version "{version[:40]}" of {self.name} here',
                hint=suggestion(version, known),
                kind="not-found",
            )
        return found, version

    def shadow_of(self, batcher: Batcher) -> Batcher | None:
        """The batcher that is also to be asked."""
        shadow = self.aliases.get(SHADOW)
        if shadow is None or shadow is batcher or not batcher.loaded.settings.shadow:
            return None
        return shadow


def place_of(name: str, key: str) -> float:
    """Where in [0, 1) a client stands; always at the same place when it has a key."""
    if not key:
        return random.random()  # noqa: S311 - a share of traffic is no secret
    return int.from_bytes(hashlib.blake2b(f"{name}\0{key}".encode(), digest_size=8).digest(), "big") / 2**64


def wanted(ref: ModelRef) -> dict[str, ModelRef]:
    """What has to be loaded to serve a reference, by the name under which a request finds it."""
    if ref.version is not None:
        return {str(ref.version): ref}
    main = ref.alias or NEWEST
    found = {main: ref}
    if main == PRODUCTION:
        found |= {alias: ModelRef(name=ref.name, alias=alias) for alias in (CANARY, SHADOW)}
    return found


def names_of(routes: Iterable[Route]) -> list[str]:
    """The models that are served."""
    return sorted(route.name for route in routes)

"""What flows between steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Media = Literal["table", "json", "onnx", "private"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """Something that flows between steps: the SHA-256 of its bytes, what kind of bytes, and how many."""

    digest: str
    media: Media
    size: int

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {"digest": self.digest, "media": self.media, "size": self.size}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """What a step gives back: artifacts by output name, and byproducts, which are plain JSON and no identity."""

    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    byproducts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What a step is given: artifacts by port, and the byproducts of steps whose verdict is one."""

    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    byproducts: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, port: str) -> Artifact:
        return self.artifacts[port]

    def get(self, port: str) -> Artifact | None:
        """The artifact at ``port``, if something is connected there."""
        return self.artifacts.get(port)

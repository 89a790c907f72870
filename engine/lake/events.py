"""What hooks are told, and what a lake asks of whoever runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from engine.lake.protocol import Lake

Kind = Literal["pre-commit", "post-commit", "pre-merge", "post-merge"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that is about to happen to a branch (``pre-``), or has happened (``post-``).

    Attributes:
        branch: the branch that moves.
        source: where the action files and the new data are read: before a commit the branch itself, with what is
            staged; for a merge the commit that is merged; after both the new commit.
        commit: the new commit's id; empty before.
        author, message, metadata: of the new commit.
        merge_source: what the user asked to merge: a branch, a tag or another ref.
    """

    kind: Kind
    repository: str
    branch: str
    source: str
    commit: str = ""
    author: str = ""
    message: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    merge_source: str = ""


class Hooks(Protocol):
    """Runs the hooks that a repository's ``_lakefs_actions/*.yaml`` name."""

    def before(self, lake: Lake, event: Event) -> None:
        """Run the hooks of a ``pre-`` event.

        Raises:
            HookRefused: when one says no, does not answer, or its file cannot be understood.
        """

    def after(self, lake: Lake, event: Event) -> None:
        """Run the hooks of a ``post-`` event. What they answer changes nothing; what fails is noted, never raised."""

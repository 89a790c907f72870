"""The one ``Registry`` protocol: what a place that keeps models must do. :mod:`engine.registry.sqlite` is one.

::

    reserve --> note_run (a version is visible) --> begin --> move --> drop
                     |                                |         |
                     `--------- each is an entry of the ledger -'

Each method that changes something does so whole or not at all, together with its entry in the ledger, whatever other
processes do at the same time. It is on the disk when the method is over, but for reservations and runs: a run is
recorded between the two, and whoever records it says when both have to be safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from engine.registry.model import (
    Decision,
    Flaw,
    Head,
    LedgerEntry,
    ModelRef,
    ModelVersion,
    Pending,
    Sources,
)


class Registry(Protocol):
    """Models, their versions, aliases, tags and descriptions, and the ledger of everything that happened to them.

    A registry that is not there yet is empty. Every method raises :class:`~engine.errors.Failed` when the place
    cannot be read or written.
    """

    @property
    def place(self) -> str:
        """Where it is, for a person."""

    @property
    def exists(self) -> bool:
        """Whether anything was ever written to it."""

    # -- reading --------------------------------------------------------------------------------------

    def models(self) -> list[str]:
        """The names of all models that have a version."""

    def versions(self, name: str) -> list[ModelVersion]:
        """The versions of a model, the newest first, retired ones included.

        Raises:
            ModelNotFound: when it has none.
        """

    def find(self, ref: ModelRef) -> ModelVersion | None:
        """The version that ``ref`` means now, if it means one."""

    def get(self, ref: ModelRef) -> ModelVersion:
        """The version that ``ref`` means.

        Raises:
            ModelNotFound: when it means none; with the names that exist.
        """

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of a model and the versions that they name."""

    def has_meant(self, ref: ModelRef) -> bool:
        """Whether ``ref`` has ever named a version; an explicit version number always claims to."""

    def description(self, name: str) -> str:
        """What was said of a model as a whole."""

    def tags(self, name: str) -> dict[str, str]:
        """The tags of a model as a whole."""

    def sources(self, name: str, version: int) -> list[Sources]:
        """What each run of a version was made from, the first run first."""

    def knows(self, record: str) -> bool:
        """Whether the ledger has an entry for the execution whose record has this digest."""

    def ledger(self, name: str = "") -> list[LedgerEntry]:
        """Every entry (about the model ``name``, when one is given), the oldest first."""

    def head(self) -> Head:
        """The last entry of the ledger. It is cheap: who follows an alias polls it, and looks when it has changed."""

    def flaws(self) -> Iterator[Flaw]:
        """Everything that is not as it was written: links of the chain, and tables that say what no entry does."""

    def pending(self) -> list[Pending]:
        """Decisions that are being carried out, or were when their process died."""

    # -- versions -------------------------------------------------------------------------------------

    def reserve(self, name: str, digest: str, package: str) -> int:
        """The version number of these model bytes: the one they have, or the next free one.

        A reserved version is not visible until it is confirmed; its number is never given to other bytes. It is safe
        from the death of a process, and after :meth:`sync`, or any change but a reservation or a run, of the machine.
        """

    def announce(self, run: str, record: str) -> None:
        """Say which record is about to be written: until it is entered, that is what tells it from a forged one.

        It is as safe as what :meth:`reserve` writes.
        """

    def announced(self) -> set[str]:
        """The digests of records that were announced and not entered: their processes died, or are at it."""

    def note_run(
        self,
        name: str,
        run: str,
        record: str,
        status: str,
        version: int | None = None,
        pins: Mapping[str, Any] | None = None,
        execution: int | None = None,
    ) -> None:
        """Enter an execution that was recorded in the ledger, by the digest of its record.

        Args:
            version: the version that was reserved for a run that passed. It becomes visible, with this evidence.
            pins: ``data`` (name -> uri, commit, digest) and ``code`` (commit, dirty, digest) of the run.
            execution: the number under which the record lies.

        It is as safe as what :meth:`reserve` writes.

        Raises:
            Failed: when the version was never reserved, as in a registry that was removed since, or the record was
                never announced.
        """

    def sync(self) -> None:
        """Have everything on the disk that was written until now."""

    def note_removed(self, run: str) -> None:
        """Enter in the ledger that the records of a run are removed, so that they are not missed."""

    def retire(self, name: str, version: int, why: str = "", *, undo: bool = False) -> bool:
        """Take a version out of use, or back into it; tell whether that changed anything. Its number stays its own.

        Raises:
            ModelNotFound: when there is no such version.
            VersionInUse: when an alias names it.
        """

    # -- words ----------------------------------------------------------------------------------------

    def tag(self, name: str, version: int | None, changes: Mapping[str, str | None]) -> bool:
        """Set tags of a version, or of the model; ``None`` takes one away. Tell whether that changed anything.

        Raises:
            ModelNotFound: when there is no such version.
        """

    def describe(self, name: str, version: int | None, text: str) -> bool:
        """Say what a version, or the model, is for; tell whether that changed anything.

        Raises:
            ModelNotFound: when there is no such version.
        """

    # -- aliases --------------------------------------------------------------------------------------

    def set_alias(self, name: str, alias: str, version: int, why: str = "") -> LedgerEntry:
        """Point an alias at a version, whatever it named before and without evidence.

        Raises:
            ModelNotFound, VersionRetired: when there is no such version, or none in use.
            AliasMoved: while a decision about it is being carried out.
        """

    def begin(self, decision: Decision) -> None:
        """Write down that a decision is about to be carried out: from now on nobody else moves its alias.

        Raises:
            ModelNotFound, VersionRetired, AliasMoved: as for :meth:`move`.
        """

    def move(self, decision: Decision, data: Mapping[str, Any] | None = None) -> LedgerEntry:
        """Carry a decision out: the alias names its version. It is pending until :meth:`drop`.

        Args:
            data: what became of its data.

        Raises:
            ModelNotFound, VersionRetired: when there is no such version, or none in use.
            AliasMoved: when an alias means something else than the decision assumes, or somebody decides about it.
        """

    def drop(self, id: str) -> None:
        """A decision is over: carried out and anchored, or given up before its alias moved."""

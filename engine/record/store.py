"""Records on the disk: written once, whole, read-only::

runs/<run id>/
  spec.json                  the run's identity: its SHA-256 is the run id
  operation/<n>.json         the newest is what a server uses; its last line is its digest
  executions/<n>/
    record.json              one execution, as an in-toto statement
    digests.json             the digest of what was to be done, and that of the whole record
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.digest import canonical_json, sha256
from engine.errors import EngineError, NotFound, UsageError, writing
from engine.record.model import RunRecord, definition_digest
from engine.store.checked import read_checked, write_checked
from engine.store.durable import sync_folder
from engine.store.objects import write_once

if TYPE_CHECKING:
    from engine.resolve.model import ResolvedSpec

SHORTEST_PREFIX = 6


class RecordStore:
    """The runs below ``home``."""

    def __init__(self, home: Path) -> None:
        self.root = home / "runs"

    def folder(self, run_id: str) -> Path:
        """Where everything about a run lies."""
        return self.root / run_id

    # -- writing --------------------------------------------------------------------------------------

    def open_run(self, resolved: ResolvedSpec) -> None:
        """Write the run's spec, once, and its operation if that is news."""
        folder = self.folder(resolved.run_id)
        spec = folder / "spec.json"
        if not spec.is_file():
            write_once(spec, canonical_json(resolved.identity))
        self.note_operation(resolved)

    def note_operation(self, resolved: ResolvedSpec) -> bool:
        """Append the operation when it differs from the newest that is recorded; tell whether it did."""
        folder = self.folder(resolved.run_id) / "operation"
        data = canonical_json(resolved.operation)
        numbers = numbered(folder, ".json")
        if numbers and read_checked(folder / f"{numbers[-1]}.json") == data:
            return False
        write_checked(folder / f"{(numbers or [0])[-1] + 1}.json", data)
        return True

    def append(self, run_id: str, statement: Mapping[str, Any]) -> RunRecord:
        """Write one execution; it appears whole, under the next free number."""
        folder = self.folder(run_id) / "executions"
        temporary = self.root.parent / "tmp" / f"record-{secrets.token_hex(6)}"
        with writing(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                whole = canonical_json(statement)
                write_once(temporary / "record.json", whole)
                write_once(temporary / "digests.json", canonical_json(digests(statement, whole)))
                number = self._place(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        record = self.read(run_id, number)
        self.point(str(record.summary["name"]), run_id)
        return record

    def point(self, name: str, run_id: str) -> None:
        """Remember the newest run of a model's name; it is only looked at to explain a plan."""
        with suppress(EngineError):
            write_checked(self.pointer(name), run_id.encode())

    def pointer(self, name: str) -> Path:
        """Where the newest run of a model's name is remembered."""
        return self.root.parent / "cache" / "newest" / name

    def newest_of(self, name: str) -> RunRecord | None:
        """The newest execution of the newest run of a model's name, as far as that is remembered."""
        run_id = (read_checked(self.pointer(name)) or b"").decode()
        return self.latest(run_id) if run_id else None

    def _place(self, temporary: Path, folder: Path) -> int:
        while True:
            number = (numbered(folder) or [0])[-1] + 1
            try:
                os.rename(temporary, folder / str(number))
            except OSError:
                if not (folder / str(number)).exists():
                    raise
                continue  # another process took the number
            sync_folder(folder)
            os.utime(self.root)  # whoever indexes the runs sees by one time that something came
            return number

    # -- reading --------------------------------------------------------------------------------------

    def folders(self) -> list[str]:
        """Every run that has a folder, whatever is in it."""
        return sorted(entry.name for entry in self.root.iterdir()) if self.root.is_dir() else []

    def run_ids(self) -> list[str]:
        """Every run that has a spec."""
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if (entry / "spec.json").is_file())

    def find(self, prefix: str) -> str:
        """The run id that starts with ``prefix``.

        Raises:
            NotFound: when there is none.
            UsageError: when there are several, or the prefix is shorter than 6 characters.
        """
        if len(prefix) < SHORTEST_PREFIX:
            raise UsageError(f'"{prefix}" is too short', hint=f"give at least {SHORTEST_PREFIX} characters of a run id")
        found = [run_id for run_id in self.run_ids() if run_id.startswith(prefix)]
        if not found:
            raise NotFound("run", prefix, hint="`engine runs list` shows them")
        if len(found) > 1:
            raise UsageError(f'"{prefix}" begins {len(found)} run ids', hint=f"give more of it: {', '.join(found[:4])}")
        return found[0]

    def numbers(self, run_id: str) -> list[int]:
        """The numbers of a run's executions, ascending."""
        return numbered(self.folder(run_id) / "executions")

    def executions(self, run_id: str) -> list[RunRecord]:
        """The executions of a run, the oldest first."""
        folder = self.folder(run_id) / "executions"
        return [self.read(run_id, number) for number in numbered(folder)]

    def read(self, run_id: str, number: int) -> RunRecord:
        """One execution.

        Raises:
            UsageError: when its file is damaged.
        """
        path = self.folder(run_id) / "executions" / str(number) / "record.json"
        try:
            statement = json.loads(path.read_bytes())
        except ValueError as error:
            raise UsageError(
                "the record is damaged", place=str(path), hint="`engine verify` says what else is"
            ) from error
        return RunRecord(run_id=run_id, execution=number, statement=statement, operation=self.operation(run_id))

    def operation(self, run_id: str) -> dict[str, Any]:
        """The newest operation of a run."""
        folder = self.folder(run_id) / "operation"
        numbers = numbered(folder, ".json")
        if not numbers:
            return {}
        path = folder / f"{numbers[-1]}.json"
        data = read_checked(path)
        if data is None:
            raise UsageError("the operation is damaged", place=str(path), hint="`engine verify` says what else is")
        found: dict[str, Any] = json.loads(data)
        return found

    def newest_operation(self, runs: Sequence[str]) -> dict[str, Any]:
        """The operation that was recorded last for any of these runs, of which the last is the newest."""
        noted = self.by_operation(runs)
        return self.operation(noted[0]) if noted else {}

    def by_operation(self, runs: Sequence[str]) -> list[str]:
        """Those of the runs that have an operation: the one for which one was recorded last comes first."""
        noted = []
        for place, run in enumerate(runs):
            folder = self.folder(run) / "operation"
            numbers = numbered(folder, ".json")
            if numbers:
                noted.append(((folder / f"{numbers[-1]}.json").stat().st_mtime_ns, place, run))
        return [run for _, _, run in sorted(noted, reverse=True)]

    def operation_digest(self, run_id: str) -> str | None:
        """The SHA-256 of the newest operation of a run, if there is a whole one."""
        folder = self.folder(run_id) / "operation"
        numbers = numbered(folder, ".json")
        data = read_checked(folder / f"{numbers[-1]}.json") if numbers else None
        return None if data is None else sha256(data)

    def latest(self, run_id: str) -> RunRecord | None:
        """The newest execution of a run, if it has one."""
        numbers = numbered(self.folder(run_id) / "executions")
        return self.read(run_id, numbers[-1]) if numbers else None

    def answer(self, run_id: str) -> RunRecord | None:
        """The newest execution that speaks for the run."""
        for number in reversed(numbered(self.folder(run_id) / "executions")):
            record = self.read(run_id, number)
            if record.answers:
                return record
        return None

    def newest(self) -> Iterator[RunRecord]:
        """The newest execution of every run, the latest first."""
        found = [record for run_id in self.run_ids() if (record := self.latest(run_id)) is not None]
        yield from sorted(found, key=lambda record: str(record.summary["started"]), reverse=True)


def numbered(folder: Path, suffix: str = "") -> list[int]:
    """The numbers that name the entries of a folder, ascending."""
    if not folder.is_dir():
        return []
    names = (entry.name.removesuffix(suffix) for entry in folder.iterdir() if entry.name.endswith(suffix))
    return sorted(int(name) for name in names if name.isdigit())


def digests(statement: Mapping[str, Any], whole: bytes) -> dict[str, str]:
    """The two digests of a record whose bytes are ``whole``."""
    return {"definition": f"sha256:{definition_digest(statement)}", "record": f"sha256:{sha256(whole)}"}

"""How a step touches the world: it is given a context, reads artifacts through it and puts new ones back."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.digest import canonical_json
from engine.errors import DigestMismatch, StepFailed, writing
from engine.steps.model import Artifact, Media
from engine.steps.seals import is_sealed, seal_of, seal_path
from engine.store.objects import ObjectStore, write_once

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_BATCH = 65_536


def indented(text: str) -> None:
    """Print a line of a step's log."""
    print(f"  {text}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """A step's only way out: the object store, the Engine home, and what it may use."""

    store: ObjectStore
    home: Path
    run_id: str
    step: str
    cpus: int = 1
    log: Callable[[str], None] = indented

    # -- tables ---------------------------------------------------------------------------------------

    def table(self, artifact: Artifact) -> pa.Table:
        """A table, memory-mapped: no byte is copied until it is used.

        Raises:
            DigestMismatch: when the file has another length than was recorded.
        """
        import pyarrow as pa

        path = self.store.require(artifact.digest)
        if path.stat().st_size != artifact.size:
            raise DigestMismatch("table", artifact.digest, f"{path.stat().st_size} bytes", place=str(path))
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()

    def put_table(self, table: pa.Table) -> Artifact:
        """Keep a table as Arrow IPC, in batches of 65,536 rows, so that equal tables are equal bytes."""
        import pyarrow as pa

        plain = table.replace_schema_metadata(None).combine_chunks()
        with self.store.scratch() as path:
            with writing(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, plain.schema) as writer:
                writer.write_table(plain, max_chunksize=ROWS_PER_BATCH)
            size = path.stat().st_size
            return Artifact(digest=self.store.adopt(path), media="table", size=size)

    # -- JSON and bytes -------------------------------------------------------------------------------

    def json(self, artifact: Artifact) -> Any:
        """A JSON artifact, hashed on the way."""
        return json.loads(self.store.read(artifact.digest))

    def put_json(self, value: object) -> Artifact:
        """Keep a JSON value in canonical form."""
        return self.put_bytes(canonical_json(value), "json")

    def data(self, artifact: Artifact) -> bytes:
        """An artifact's bytes, hashed on the way."""
        return self.store.read(artifact.digest)

    def put_bytes(self, data: bytes, media: Media) -> Artifact:
        """Keep bytes."""
        return Artifact(digest=self.store.put(data), media=media, size=len(data))

    # -- native models --------------------------------------------------------------------------------

    def put_private(self, value: object) -> Artifact:
        """Keep a Python object for later steps of this Engine home, and of no other.

        It is pickled, and sealed with a key that never leaves the home: what another home, a download or
        an editor put there is not unpickled.
        """
        buffer = io.BytesIO()
        pickle.Pickler(buffer, protocol=5).dump(value)
        artifact = self.put_bytes(buffer.getvalue(), "private")
        if not is_sealed(self.home, artifact.digest, buffer.getvalue()):
            write_once(seal_path(self.home, artifact.digest), seal_of(self.home, buffer.getvalue()))
        return artifact

    def private(self, artifact: Artifact) -> Any:
        """The object that :meth:`put_private` kept.

        Raises:
            StepFailed: when this home did not seal it.
        """
        data = self.store.read(artifact.digest)
        if not is_sealed(self.home, artifact.digest, data):
            raise StepFailed(
                "the native model was not written by this Engine home, so it is not read",
                place=str(self.store.path(artifact.digest)),
                hint="run again with --fresh",
            )
        return pickle.loads(data)  # noqa: S301  sealed by this home above

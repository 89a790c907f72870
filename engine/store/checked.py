"""Small files in which any changed byte is seen: what was written, and a last line with its SHA-256."""

from __future__ import annotations

from pathlib import Path

from engine.digest import sha256


def write_checked(path: Path, data: bytes) -> None:
    """Write ``data`` and its digest to ``path``, whole and read-only.

    Raises:
        StorageFull, StorageUnwritable: when the disk says so; nothing is left behind.
    """
    from engine.store.objects import write_once  # whoever only reads needs nothing of the store

    write_once(path, data + last_line(data))


def read_checked(path: Path) -> bytes | None:
    """What was written to ``path``; ``None`` when there is nothing, or anything but that."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    return checked(whole)


def checked(whole: bytes) -> bytes | None:
    """A file's content less its last line, if that is the content's digest."""
    data = whole[: -len(last_line(b""))]
    return data if whole == data + last_line(data) else None


def last_line(data: bytes) -> bytes:
    """The line that stands after ``data``. It is JSON, so that ``jq`` reads such a file of JSON too."""
    return f'\n"sha256:{sha256(data)}"\n'.encode()

"""Where a lakeFS server is and how to get in: the ``LAKECTL_*`` variables, or ``~/.lakectl.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.errors import UsageError

FILE = ".lakectl.yaml"
API = "/api/v1"
ENDPOINT, ID, SECRET = (
    "LAKECTL_SERVER_ENDPOINT_URL",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
)
VARIABLES = {"endpoint": ENDPOINT, "access_key_id": ID, "secret_access_key": SECRET}
KEYS = {
    "endpoint": ("server", "endpoint_url"),
    "access_key_id": ("credentials", "access_key_id"),
    "secret_access_key": ("credentials", "secret_access_key"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """A server, and a key for it. ``endpoint`` has no ``/api/v1`` and no ``/`` at its end."""

    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)


def credentials(environment: Mapping[str, str], home: Path) -> Credentials | None:
    """What names a lakeFS server, if anything does. Variables win over the file, each for itself.

    Raises:
        UsageError: for half of it, an endpoint that is no URL, and a file that cannot be read.
    """
    path = home / FILE
    written = from_file(path)
    found = {name: environment.get(variable) or written.get(name, "") for name, variable in VARIABLES.items()}
    if not any(found.values()):
        return None
    missing = [VARIABLES[name] for name, value in found.items() if not value]
    if missing:
        hint = f"set it, or unset the others and take them out of {path} to use the embedded lake"
        raise UsageError(f"a lakeFS server is half configured: no {' and no '.join(missing)}", hint=hint)
    return Credentials(
        endpoint=endpoint_from(found["endpoint"]),
        access_key_id=found["access_key_id"],
        secret_access_key=found["secret_access_key"],
    )


def endpoint_from(text: str) -> str:
    """An endpoint's URL without what every endpoint ends in.

    Raises:
        UsageError: when it is none.
    """
    url = urlsplit(text if "://" in text else f"http://{text}")
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or "@" in url.netloc:
        raise UsageError(
            f'"{text}" is not the URL of a server', place=ENDPOINT, hint="write https://HOST or http://HOST:PORT"
        )
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/').removesuffix(API)}"


def from_file(path: Path) -> dict[str, str]:
    """What a file of ``lakectl`` says; nothing when it is not there.

    Raises:
        UsageError: with the line that is wrong.
    """
    if not path.is_file():
        return {}
    import yaml

    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("cannot be read", place=str(path), hint="mend it, or set the LAKECTL_* variables") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UsageError("is not YAML", place=place, hint="mend it, or set the LAKECTL_* variables") from error
    found: dict[str, str] = {}
    for name, (section, key) in KEYS.items():
        part = content.get(section) if isinstance(content, dict) else None
        value = part.get(key) if isinstance(part, dict) else None
        if value is not None:
            found[name] = str(value)
    return found

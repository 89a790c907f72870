"""Where a lakeFS server is, the way there, and its key: the ``LAKECTL_*`` variables, or ``~/.lakectl.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from engine.errors import UsageError

FILE = ".lakectl.yaml"
MEND = "mend it, or set the LAKECTL_* variables"
ABSENT = ("", "~", "null")
API = "/api/v1"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
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
        UsageError: for half of it, an endpoint that is no URL, what can be no key, and a file that cannot be read.
    """
    path = home / FILE
    said = all(environment.get(variable) for variable in VARIABLES.values())
    written = {} if said else from_file(path)
    found = {name: environment.get(variable) or written.get(name, "") for name, variable in VARIABLES.items()}
    if not any(found.values()):
        return None
    missing = [VARIABLES[name] for name, value in found.items() if not value]
    if missing:
        hint = f"set it, or unset the others and take them out of {path} to use the embedded lake"
        raise UsageError(f"a lakeFS server is half configured: no {' and no '.join(missing)}", hint=hint)
    places = {name: variable if environment.get(variable) else str(path) for name, variable in VARIABLES.items()}
    for name in ("access_key_id", "secret_access_key"):
        if not (found[name].isascii() and found[name].isprintable()):
            fact = f"the {name.replace('_', ' ')} has characters that are in no key"
            raise UsageError(fact, place=places[name], hint="copy it again")
    return Credentials(
        endpoint=endpoint_from(found["endpoint"], places["endpoint"]),
        access_key_id=found["access_key_id"],
        secret_access_key=found["secret_access_key"],
    )


def endpoint_from(text: str, place: str = ENDPOINT) -> str:
    """An endpoint's URL without what every endpoint ends in.

    Raises:
        UsageError: when it is none, without the password that may be in it.
    """
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        wrong = url.scheme not in ("http", "https") or not url.hostname or url.port == 0
    except ValueError:
        wrong = True
    if wrong or " " in text or not text.isprintable() or any(mark in text for mark in "@?#"):
        shown = text.rpartition("@")[2]
        fact = f'"{shown}" is not the URL of a server' if shown == text else "there is a password in the URL"
        raise UsageError(fact, place=place, hint="write https://HOST or http://HOST:PORT")
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/').removesuffix(API).rstrip('/')}"


def from_file(path: Path) -> dict[str, str]:
    """What a file of ``lakectl`` says, as it is written; nothing when it is not there.

    Raises:
        UsageError: with the line that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"cannot be read: {why}", place=str(path), hint=MEND) from error
    content = yaml_from(text, path)
    found: dict[str, str] = {}
    for name, (section, key) in KEYS.items():
        part = content.get(section) if isinstance(content, dict) else None
        value = part.get(key, "") if isinstance(part, dict) else ""
        if not isinstance(value, str):
            raise UsageError(f"{section}.{key} is not a text", place=str(path), hint=MEND)
        if value not in ABSENT:
            found[name] = value
    return found


def yaml_from(text: str, path: Path) -> Any:
    """YAML in which every value is the text that was written: a key may look like a number."""
    import yaml

    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  (this loader makes texts, lists and dicts only)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UsageError("is not YAML", place=place, hint=MEND) from error
    except RecursionError as error:
        raise UsageError("is nested too deeply", place=str(path), hint=MEND) from error


def certificates(environment: Mapping[str, str], url: str) -> str | None:
    """The file of certificates to trust at an address, where one is set; the system's own are used otherwise.

    Raises:
        UsageError: when it is not there and the server has a certificate.
    """
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        path = environment.get(name)
        if path:
            if url.startswith("https:") and not Path(path).is_file():
                raise UsageError(f'no file "{path}"', place=name, hint="set it to a file of certificates, or unset it")
            return path
    return None


def proxy_for(environment: Mapping[str, str], url: str) -> tuple[str, str] | None:
    """The proxy that is set for an address, and its user and password; none for this machine's own addresses.

    Raises:
        UsageError: for a proxy that is not one for HTTP.
    """
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    target = urlsplit(url)
    names = (f"{target.scheme}_proxy", "all_proxy")
    name = next((spelt for name in names for spelt in (name, name.upper()) if environment.get(spelt)), None)
    unproxied = environment.get("no_proxy") or environment.get("NO_PROXY", "")
    if name is None or target.hostname in LOOPBACK or proxy_bypass_environment(target.netloc, {"no": unproxied}):
        return None
    text = environment[name]
    proxy = urlsplit(text if "://" in text else f"http://{text}")
    if proxy.scheme not in ("http", "https") or not proxy.hostname:
        raise UsageError("is not the URL of a proxy for HTTP", place=name, hint="write http://HOST:PORT")
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}" if proxy.username else ""
    return f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}", user

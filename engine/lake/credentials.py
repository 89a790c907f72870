"""Where a lakeFS server is, the way there, and its key: the ``LAKECTL_*`` variables, or ``~/.lakectl.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from engine.errors import UsageError

FILE = ".lakectl.yaml"
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


def credentials(environment: Mapping[str, str], home: Path | None) -> Credentials | None:
    """What names a lakeFS server, if anything does. Variables win over the file, each for itself.

    Args:
        home: where the file is looked for, when somebody has a home.

    Raises:
        UsageError: for half of it, an endpoint that is no URL, and a file that cannot be read.
    """
    found = {name: environment.get(variable, "").strip() for name, variable in VARIABLES.items()}
    if home is not None and not all(found.values()):
        written = from_file(home / FILE)
        found = {name: value or written.get(name, "") for name, value in found.items()}
    if not any(found.values()):
        return None
    missing = [VARIABLES[name] for name, value in found.items() if not value]
    if missing:
        hint = f"set it, or unset the others and take them out of ~/{FILE} to use the embedded lake"
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
    address = text if "://" in text else f"http://{text}"
    try:
        url = urlsplit(address)
        well = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # of a port or an IPv6 address
        well = False
    if not well or url.query or url.fragment or "@" in url.netloc or any(sign.isspace() for sign in address):
        hint = "write https://HOST or http://HOST:PORT"
        raise UsageError(f"{shown(text)} is not the URL of a server", place=ENDPOINT, hint=hint)
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/').removesuffix(API)}"


def shown(text: str) -> str:
    """A URL as it may be shown: without the user and the password that somebody may have written into it."""
    scheme, mark, rest = text.rpartition("://")
    return f'"{scheme}{mark}{rest.rpartition("@")[2]}"'


def from_file(path: Path) -> dict[str, str]:
    """What a file of ``lakectl`` says; nothing when it is not there.

    Raises:
        UsageError: with the line that is wrong.
    """
    try:
        if not path.is_file():
            return {}
    except PermissionError:  # somebody else's home: whether there is one cannot be known
        return {}
    import yaml

    hint = "mend it, or set the LAKECTL_* variables"
    try:
        text = path.read_text(encoding="utf-8")
        content: Any = yaml.load(text, yaml.BaseLoader)  # noqa: S506  (it makes strings: a key may look like a number)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("cannot be read", place=str(path), hint=hint) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UsageError("is not YAML", place=place, hint=hint) from error
    found: dict[str, str] = {}
    for name, (section, key) in KEYS.items():
        value = at(at(content, section, path), key, path)
        if value and not isinstance(value, str):
            raise UsageError(f"{section}.{key} is not a text", place=str(path), hint=hint)
        if value:
            found[name] = value.strip()
    return found


def at(content: Any, key: str, path: Path) -> Any:
    """What a file has at a key, if it has it."""
    if not content:
        return None
    if not isinstance(content, dict):
        raise UsageError(f'has no place for "{key}"', place=str(path), hint="write it as `lakectl config` does")
    return content.get(key)


def certificates(environment: Mapping[str, str], endpoint: str) -> str | None:
    """The file of certificates to trust, where one is set; the system's own are used otherwise.

    Raises:
        UsageError: when it is not there and the server has a certificate.
    """
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        path = environment.get(name)
        if path:
            if endpoint.startswith("https:") and not Path(path).is_file():
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

"""``lakefs://repository/ref/path``: where data lies."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import UsageError

SCHEME = "lakefs://"
REPOSITORY = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
HINT = "write lakefs://REPOSITORY/REF/PATH, as in lakefs://flights/main/2013-h1/"


@dataclass(frozen=True, kw_only=True, slots=True)
class LakeUri:
    """An object, or a folder when ``path`` is empty or ends in ``/``, at a ref of a repository."""

    repository: str
    ref: str
    path: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}/{self.ref}/{self.path}"


def parse(text: str) -> LakeUri:
    """Read a lake URI.

    Raises:
        UsageError: saying which part is wrong.
    """
    if text.encode(errors="replace").decode() != text:
        raise UsageError(f"{text!a} is not Unicode text", hint="write it in UTF-8")
    if not text.startswith(SCHEME):
        raise UsageError(f'"{text}" is not a lake URI', hint=HINT)
    repository, _, rest = text.removeprefix(SCHEME).partition("/")
    ref, _, path = rest.partition("/")
    if not REPOSITORY.fullmatch(repository):
        hint = "3 to 63 small letters, digits and hyphens, a letter or digit first"
        raise UsageError(f'"{repository}" in "{text}" is not a repository name', hint=hint)
    if not ref:
        raise UsageError(f'"{text}" names no branch, tag or commit', hint=HINT)
    return LakeUri(repository=repository, ref=ref, path=path)


def parse_ref(text: str) -> LakeUri:
    """Read a lake URI that names a branch, tag or commit and no path: ``lakefs://repo/main``.

    Raises:
        UsageError: saying which part is wrong.
    """
    uri = parse(text)
    if uri.path:
        hint = f"write {SCHEME}{uri.repository}/{uri.ref}"
        raise UsageError(f'"{text}" has a path where only a branch, tag or commit can be named', hint=hint)
    return uri


def parse_repository(text: str) -> str:
    """The repository that ``lakefs://repo``, or its bare name, names.

    Raises:
        UsageError: when it is neither.
    """
    name = text.removeprefix(SCHEME).removesuffix("/")
    if not REPOSITORY.fullmatch(name):
        hint = "3 to 63 small letters, digits and hyphens, a letter or digit first, as in lakefs://flights"
        raise UsageError(f'"{text}" is not a repository', hint=hint)
    return name

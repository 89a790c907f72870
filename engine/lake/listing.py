"""What lies at a lake URI."""

from __future__ import annotations

from itertools import islice

from engine.errors import NotFound, suggestion
from engine.lake.protocol import Entry, Lake
from engine.lake.uri import LakeUri

MOST_SUGGESTED = 5000


def is_file(uri: LakeUri) -> bool:
    """Whether a URI names one object rather than a folder."""
    return bool(uri.path) and not uri.path.endswith("/")


def files_at(uri: LakeUri, commit: str, lake: Lake) -> dict[str, Entry]:
    """The files at a commit, by their paths below the URI's folder: the one that it names, or all below it, sorted.

    Their bytes are here then.

    Raises:
        NotFound: when there is none; the nearest is suggested.
    """
    if is_file(uri):
        try:
            found = [lake.stat(uri.repository, commit, uri.path)]
        except NotFound as error:
            raise path_not_found(uri, commit, lake) from error
    else:
        found = list(lake.list(uri.repository, commit, uri.path))
    if not found:
        raise path_not_found(uri, commit, lake)
    folder = uri.path.rpartition("/")[0] + "/" if "/" in uri.path else ""
    entries = [lake.fetch(uri.repository, commit, entry) for entry in found]
    return {entry.path.removeprefix(folder): entry for entry in entries}


def commit_of(uri: LakeUri, lake: Lake) -> str:
    """The commit that a URI means.

    Raises:
        NotFound: for a repository, ref or path that is not there; the nearest is suggested.
    """
    commit = lake.resolve(uri.repository, uri.ref)
    if is_file(uri):
        try:
            lake.stat(uri.repository, commit, uri.path)
        except NotFound as error:
            raise path_not_found(uri, commit, lake) from error
    elif uri.path and next(iter(lake.list(uri.repository, commit, uri.path)), None) is None:
        raise path_not_found(uri, commit, lake)
    return commit


def path_not_found(uri: LakeUri, commit: str, lake: Lake) -> NotFound:
    """The error for a path that is not in a commit, with the nearest that is."""
    known = {entry.path for entry in islice(lake.list(uri.repository, commit), MOST_SUGGESTED)}
    known |= {path.rpartition("/")[0] + "/" for path in known if "/" in path}
    what = "object" if is_file(uri) else "folder"
    return NotFound(
        f"{what} in lakefs://{uri.repository}/{uri.ref}/:", uri.path, hint=suggestion(uri.path, known, most=5)
    )

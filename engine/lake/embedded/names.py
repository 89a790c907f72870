"""What may be the name of a repository, branch, tag, ref or path: lakeFS's rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from engine.errors import UsageError
from engine.lake.uri import REPOSITORY

BRANCH = re.compile(r"\w[-\w]*", re.ASCII)
TAG = re.compile(r"\w(?:[-\w]|\.(?!\.|$|lock$))*", re.ASCII)
FULL_ID = re.compile(r"[0-9a-f]{64}")
SHORT_ID = re.compile(r"[0-9a-f]{4,63}")
STEP = re.compile(r"([~^])([0-9]*)")
REF = re.compile(r"([^~^@$]+)((?:[~^][0-9]{0,9})*)([@$]?)((?:[~^][0-9]{0,9})*)")
MAX_PATH = 1024
MAX_NAME = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Ref:
    """A ref in parts: ``main~2^1`` is ``main`` and the steps ``~ 2`` and ``^ 1``.

    ``shows_staged`` says whether reading it shows what is staged, if ``base`` is a branch.
    """

    base: str
    steps: tuple[tuple[str, int], ...] = ()
    shows_staged: bool = False


def read_ref(text: str) -> Ref:
    """A ref's parts.

    Raises:
        UsageError: for what is none.
    """
    found = REF.fullmatch(text)
    if found is None or (found[3] == "$" and (found[2] or found[4])):
        hint = "write a branch, tag or commit, and ~N, ^N, @ or $ after it"
        raise UsageError(f'"{text}" is not a ref', hint=hint)
    steps = tuple((step[1], int(step[2] or 1)) for step in STEP.finditer(found[2] + found[4]))
    return Ref(base=found[1], steps=steps, shows_staged=not steps and found[3] != "@")


def require_repository_name(name: str) -> None:
    """Refuse what is no repository name.

    Raises:
        UsageError: saying what one is.
    """
    if not REPOSITORY.fullmatch(name):
        hint = "3 to 63 small letters, digits and hyphens, a letter or digit first"
        raise UsageError(f'"{name}" is not a repository name', hint=hint)


def require_branch_name(name: str) -> None:
    """Refuse what is no branch name.

    Raises:
        UsageError: saying what one is.
    """
    require_ref_name(name, BRANCH, "branch", "letters, digits, _ and -, no - first")


def require_tag_name(name: str) -> None:
    """Refuse what is no tag name.

    Raises:
        UsageError: saying what one is.
    """
    require_ref_name(name, TAG, "tag", "letters, digits, _, - and single dots, a letter or digit first")


def require_ref_name(name: str, rule: re.Pattern[str], what: str, hint: str) -> None:
    """Refuse a name that breaks a rule, is too long, or could be taken for a commit's."""
    if not rule.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(f'"{name}" is not a {what} name', hint=hint)
    if FULL_ID.fullmatch(name):
        raise UsageError(f'"{name}" is a commit\'s name, not a {what} name', hint="choose a shorter one")


def require_path(path: str) -> None:
    """Refuse what is no object path.

    Raises:
        UsageError: saying why.
    """
    if not path:
        raise UsageError("an object needs a path", hint="write lakefs://REPOSITORY/BRANCH/PATH")
    require_text("path", [path])
    if len(path.encode()) > MAX_PATH:
        raise UsageError(f"the path is longer than {MAX_PATH} bytes", place=path[:60] + "...", hint="shorten it")


def require_text(what: str, texts: Iterable[str]) -> None:
    """Refuse what UTF-8 cannot hold: half of a surrogate pair, as in a file name that is not UTF-8.

    Raises:
        UsageError: naming it.
    """
    for text in texts:
        if text.encode(errors="replace").decode() != text:
            raise UsageError(f"{text!a} in a {what} is not Unicode text", hint="write it in UTF-8")

"""What a ref is made of: a name, and the steps that lead from it."""

from __future__ import annotations

import re

from engine.lake.protocol import Lake, RefNotFound, RepositoryNotFound

PARTS = re.compile(r"([^~^@$]*)(.*)", re.DOTALL)


def split_ref(ref: str) -> tuple[str, str]:
    """``main~2`` as ``("main", "~2")``: the name of a branch, tag or commit, and what is done from there."""
    found = PARTS.fullmatch(ref)
    assert found is not None
    return found[1], found[2]


def reads_head(ref: str, branch: str) -> bool:
    """Whether a ref means the newest that a branch has, with or without what is staged on it."""
    name, steps = split_ref(ref)
    return name == branch and not steps.strip("@$")


def at_commit(ref: str, commit: str) -> str:
    """A ref to a branch as it is when the branch is at ``commit``."""
    return commit + re.sub(r"[@$]", "", split_ref(ref)[1])


def is_fixed(lake: Lake, repository: str, name: str) -> bool:
    """Whether a name means a tag or a commit. One that the lake does not have may become a branch."""
    try:
        if name in lake.branches(repository):
            return False
        lake.resolve(repository, name)
    except (RefNotFound, RepositoryNotFound):
        return False
    return True

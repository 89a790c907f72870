"""``engine plan --against``: the plan of a git ref beside the plan of the files as they are."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from engine.errors import SpecInvalid, UsageError
from engine.pipeline import Prepared, prepare
from engine.plan.against import Against, Compiled, against
from engine.resolve.past import Commit, PastIndex, commit_at, lay_out_commit
from engine.spec.load import load
from engine.spec.project import home_path, source_roots
from engine.store.durable import scratch_folder
from engine.wiring import Home, laid_out, open_home

NAME = re.compile(r"^name:\s*[\"']?([a-z0-9-]+)", re.MULTILINE)
ALIKE = 0.5


def compare(now: Prepared, ref: str) -> Against:
    """What the change from ``ref`` to the working tree does to a plan. No code of either is run.

    Raises:
        UsageError: without git, outside a repository, and for a spec that does not lie in it.
        NotFound: when the ref names no commit.
        Failed: when git cannot read the commit.
    """
    root = now.loaded.root.resolve()
    commit = commit_at(root, ref)
    if not now.loaded.path.is_relative_to(commit.top):
        fact = f"{now.loaded.shown} does not lie in the repository {commit.top}"
        raise UsageError(fact, place="--against", hint="compare a spec that git knows")
    with scratch_folder(home_path(root) / "tmp", "against-") as folder:
        index = laid_out_project(commit, root, folder.resolve())
        then, note = compiled_then(now, commit, index, open_home(now.loaded.root))
        return against(ref, commit.id, then, Compiled(resolved=now.resolved, plan=now.plan), note)


def laid_out_project(commit: Commit, root: Path, folder: Path) -> PastIndex:
    """The files of a commit below ``folder``, with the project's root where it is now, and what they import."""
    lay_out_commit(commit, folder)
    own = folder / root.relative_to(commit.top) if root.is_relative_to(commit.top) else folder
    (own / ".engine").mkdir(parents=True, exist_ok=True)  # marks the root, or one above it would be found
    return PastIndex(source_roots(own), folder, commit.top)


def compiled_then(now: Prepared, commit: Commit, index: PastIndex, home: Home) -> tuple[Compiled | None, str]:
    """The plan of the spec as it was, if there is one, and what is odd about it."""
    spec, note, folder = str(now.loaded.path.relative_to(commit.top)), "", index.folder
    if not (folder / spec).is_file():
        found = earlier_name(now, commit, folder)
        if found is None:
            return None, f"{spec} is new: {commit.ref} does not have it"
        note, spec = f"{spec} was {found} in {commit.ref}", found
    try:
        loaded = load(spec, now.loaded.overrides, folder)
        then = prepare(loaded, laid_out(home, index, loaded.path.parent, None))
    except SpecInvalid as error:
        return None, joined(note, f"the spec of {commit.ref} is invalid: {first_of(error)}")
    except UsageError as error:
        return None, joined(note, f"the spec of {commit.ref} cannot be planned: {error}")
    return Compiled(resolved=then.resolved, plan=then.plan), note


def joined(*notes: str) -> str:
    """Notes in one line."""
    return "; ".join(note for note in notes if note)


def first_of(error: SpecInvalid) -> str:
    """The first problem of a spec, and how many more it has."""
    problems = [problem for problem in error.problems if problem.severity == "error"]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"


def earlier_name(now: Prepared, commit: Commit, folder: Path) -> str | None:
    """The spec of the same model that the commit has and the working tree has not: the one that is most like it."""
    text = now.loaded.path.read_text(encoding="utf-8-sig")
    scored: list[tuple[float, str]] = []
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        name = path.relative_to(folder).as_posix()
        if (commit.top / name).exists():
            continue
        then = path.read_text(encoding="utf-8-sig", errors="replace")
        named = NAME.search(then)
        if named is not None and named[1] == now.loaded.spec.name:
            scored.append((difflib.SequenceMatcher(None, then, text, autojunk=False).quick_ratio(), name))
    best, name = max(scored, default=(0.0, ""))
    return name if best >= ALIKE else None

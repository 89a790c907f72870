"""``engine lake status``, ``commit``, ``log``, ``diff``, ``merge``, ``revert``, ``cherry-pick`` and ``reset``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import typer

from engine.cli import view
from engine.cli.lake_asked import AUTHOR, JSON, MESSAGE, META, YES, ref_in, require_same, require_yes, signed
from engine.cli.lake_view import commit_document, commit_lines, growing_document, show_differences
from engine.errors import NO, UsageError
from engine.lake.protocol import Commit, Strategy
from engine.lake.uri import LakeUri, parse, parse_ref
from engine.report.clean import terminal
from engine.wiring import home_here

BRANCH = typer.Argument(..., metavar="URI", help="lakefs://REPOSITORY/BRANCH")
REF = typer.Argument(..., metavar="REF", help="A branch, tag or commit: its name, or its URI.")
STRATEGIES: Mapping[str, Strategy] = {"": "", "source-wins": "source-wins", "dest-wins": "dest-wins"}
PARENT = typer.Option(0, "--parent", "-p", min=0, help="Of a merge: against which parent, from 1.")


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (
        ("status", status),
        ("commit", commit),
        ("log", log),
        ("diff", diff),
        ("merge", merge),
        ("revert", revert),
        ("cherry-pick", cherry_pick),
        ("reset", reset),
    ):
        parent.command(name)(command)


# -- staged -------------------------------------------------------------------------------------------


def status(
    uri: str = typer.Argument(..., metavar="URI", help="lakefs://REPOSITORY/BRANCH[/PATH]"), json: bool = JSON
) -> int:
    """Show what is staged: + added, ~ changed, - removed."""
    at = parse(uri)
    found = home_here().lake.changes(at.repository, at.ref, at.path)
    show_differences(found, {"uri": str(at)}, "nothing is staged", json=json)
    return 0


def commit(
    branch: str = BRANCH,
    message: str = typer.Option(..., "-m", "--message", help="What the commit says."),
    author: str = AUTHOR,
    meta: list[str] = META,
    allow_empty: bool = typer.Option(False, "--allow-empty", "--allow-empty-commit", help="Also if nothing is staged."),
    json: bool = JSON,
) -> int:
    """Commit what is staged on a branch."""
    at, wanted = parse_ref(branch), signed(message, author, meta)
    made = home_here().lake.commit(
        at.repository,
        at.ref,
        wanted.message,
        author=wanted.author,
        metadata=wanted.metadata,
        allow_empty=allow_empty,
    )
    return say_commit(made, at, json=json)


def reset(
    uri: str = typer.Argument(..., metavar="URI", help="lakefs://REPOSITORY/BRANCH[/PATH]; a folder ends in /."),
    yes: bool = YES,
    json: bool = JSON,
) -> int:
    """Drop what is staged: all, in a folder, or at a path."""
    at, lake = parse(uri), home_here().lake
    whole = at.path[-1:] in ("", "/")
    dropped = sum(whole or item.path == at.path for item in lake.changes(at.repository, at.ref, at.path))
    if dropped:
        require_yes(f"drop {view.counted(dropped, 'staged change')} of {at}", yes=yes, json=json)
        lake.reset(at.repository, at.ref, at.path)
    if json:
        view.document({"uri": str(at), "dropped": dropped})
    else:
        view.line(f"dropped {view.counted(dropped, 'staged change')}" if dropped else "nothing is staged there")
    return 0


# -- looking back -------------------------------------------------------------------------------------


def log(
    ref: str = typer.Argument(..., metavar="URI", help="lakefs://REPOSITORY/REF"),
    amount: int = typer.Option(None, "-n", "--amount", min=1, help="At most so many."),
    first_parent: bool = typer.Option(False, "--first-parent", help="Only along first parents."),
    json: bool = JSON,
) -> int:
    """Show a commit and what it came from, newest first."""
    at = parse_ref(ref)
    found = islice(home_here().lake.log(at.repository, at.ref, first_parent=first_parent), amount)
    if json:
        with growing_document({"uri": str(at)}, "commits") as write:
            for item in found:
                write(commit_document(item))
        return 0
    for item in found:
        for line in commit_lines(item):
            view.line(line)
    return 0


def diff(
    left: str = typer.Argument(..., metavar="URI", help="lakefs://REPOSITORY/REF[/PATH]"),
    right: str = typer.Argument(None, metavar="[URI]", help="The other one; without it, what is staged on a branch."),
    two_dot: bool = typer.Option(False, "--two-dot", help="Compare the two as they are, not since they parted."),
    exit_code: bool = typer.Option(False, "--exit-code", help="Leave with 1 when they differ."),
    json: bool = JSON,
) -> int:
    """Compare two refs, or show what is staged. Of two: what a merge of the second into the first would bring."""
    one, lake = parse(left), home_here().lake
    if right is None:
        if two_dot:
            raise UsageError("--two-dot compares two refs", hint="write engine lake diff URI URI --two-dot")
        found, head = lake.changes(one.repository, one.ref, one.path), {"uri": str(one)}
        nothing = "nothing is staged"
    else:
        two = parse(right)
        require_same(one.repository, two)
        if one.path != two.path:
            raise UsageError(f'"{one.path}" and "{two.path}" are two paths', hint="give both the same path, or none")
        found = lake.diff(one.repository, one.ref, two.ref, one.path, two_dot=two_dot)
        head, nothing = {"left": str(one), "right": str(two)}, "no differences"
    count = show_differences(found, head, nothing, json=json)
    return NO if exit_code and count else 0


# -- making commits -----------------------------------------------------------------------------------


def merge(
    source: str = typer.Argument(..., metavar="SOURCE", help="lakefs://REPOSITORY/REF: what is merged."),
    destination: str = typer.Argument(..., metavar="DEST", help="lakefs://REPOSITORY/BRANCH: where to."),
    message: str = MESSAGE,
    strategy: str = typer.Option("", "--strategy", metavar="source-wins|dest-wins", help="Who wins a conflict."),
    author: str = AUTHOR,
    meta: list[str] = META,
    json: bool = JSON,
) -> int:
    """Bring what one branch changed to another. A conflict leaves everything as it was."""
    one, two = parse_ref(source), parse_ref(destination)
    require_same(one.repository, two)
    wanted = signed(message, author, meta)
    made = home_here().lake.merge(one.repository, one.ref, two.ref, wanted, strategy=strategy_from(strategy))
    return say_commit(made, two, json=json)


def strategy_from(text: str) -> Strategy:
    """A strategy as it was typed.

    Raises:
        UsageError: when it is none.
    """
    if text not in STRATEGIES:
        raise UsageError(f'"{text}" is not a merge strategy', hint='write "source-wins" or "dest-wins"')
    return STRATEGIES[text]


def revert(
    branch: str = BRANCH,
    ref: str = REF,
    parent: int = PARENT,
    message: str = MESSAGE,
    author: str = AUTHOR,
    meta: list[str] = META,
    json: bool = JSON,
) -> int:
    """Undo what a commit did, as a new commit."""
    at = parse_ref(branch)
    wanted = signed(message, author, meta)
    made = home_here().lake.revert(at.repository, at.ref, ref_in(at.repository, ref), wanted, parent=parent)
    return say_commit(made, at, json=json)


def cherry_pick(
    branch: str = BRANCH,
    ref: str = REF,
    parent: int = PARENT,
    message: str = MESSAGE,
    author: str = AUTHOR,
    meta: list[str] = META,
    json: bool = JSON,
) -> int:
    """Do again what a commit did, on another branch."""
    at = parse_ref(branch)
    wanted = signed(message, author, meta)
    made = home_here().lake.cherry_pick(at.repository, at.ref, ref_in(at.repository, ref), wanted, parent=parent)
    return say_commit(made, at, json=json)


def say_commit(made: Commit, at: LakeUri, *, json: bool) -> int:
    """Say which commit a branch is at now."""
    if json:
        view.document({"uri": f"lakefs://{at.repository}/{at.ref}", **commit_document(made)})
    else:
        view.line(f"commit {view.short(made.id)} on lakefs://{at.repository}/{terminal(at.ref)}")
    return 0

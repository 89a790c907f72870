"""``engine lake repos``, ``branches`` and ``tags``."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from engine.cli import view
from engine.cli.lake_asked import JSON, YES, ref_in, require_yes
from engine.cli.lake_view import moment, repository_document
from engine.errors import UsageError
from engine.lake.protocol import DEFAULT_BRANCH
from engine.lake.uri import SCHEME, parse_ref, parse_repository
from engine.report.clean import terminal
from engine.wiring import home_here

REPOSITORY = typer.Argument(..., metavar="REPOSITORY", help="Its name, or lakefs://NAME.")
BRANCH = typer.Argument(..., metavar="URI", help="lakefs://REPOSITORY/BRANCH")
TAG = typer.Argument(..., metavar="URI", help="lakefs://REPOSITORY/TAG")

repos = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
branches = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
tags = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(repos, name="repos", help="Repositories: create, list, delete.")
    parent.add_typer(branches, name="branches", help="Branches: create, list, delete.")
    parent.add_typer(tags, name="tags", help="Tags: create, list, delete.")


# -- repositories -------------------------------------------------------------------------------------


@repos.command("create")
def create_repository(
    repository: str = REPOSITORY,
    default_branch: str = typer.Option(DEFAULT_BRANCH, "--default-branch", "-d", help="Its first branch."),
    json: bool = JSON,
) -> int:
    """Make a repository with one branch and an empty first commit."""
    made = home_here().lake.create_repository(parse_repository(repository), default_branch)
    if json:
        view.document(repository_document(made))
    else:
        view.line(f"created {SCHEME}{made.name} with the branch {made.default_branch}")
    return 0


@repos.command("list")
def list_repositories(json: bool = JSON) -> int:
    """Every repository, by name."""
    found = home_here().lake.repositories()
    if json:
        view.document({"repositories": [repository_document(item) for item in found]})
    elif found:
        rows = [[item.name, item.default_branch, moment(item.time)] for item in found]
        view.table(["repository", "default branch", "created (UTC)"], rows)
    else:
        view.line("no repositories yet: `engine lake repos create NAME` makes one")
    return 0


@repos.command("delete")
def delete_repository(repository: str = REPOSITORY, yes: bool = YES, json: bool = JSON) -> int:
    """Forget a repository, its branches and its tags."""
    lake, name = home_here().lake, parse_repository(repository)
    lake.branches(name)
    require_yes(f"delete the repository {name} with all its branches and tags", yes=yes, json=json)
    lake.delete_repository(name)
    if json:
        view.document({"deleted": f"{SCHEME}{name}"})
    else:
        view.line(f"deleted {SCHEME}{name}")
    return 0


# -- branches -----------------------------------------------------------------------------------------


@branches.command("create")
def create_branch(
    branch: str = BRANCH,
    source: str = typer.Option(..., "--from", "--source", "-s", metavar="REF", help="Where it begins: a ref or URI."),
    json: bool = JSON,
) -> int:
    """Make a branch at any branch, tag or commit."""
    uri = parse_ref(branch)
    head = home_here().lake.create_branch(uri.repository, uri.ref, ref_in(uri.repository, source))
    return made_ref("branch", uri.repository, uri.ref, head, json=json)


@branches.command("list")
def list_branches(repository: str = REPOSITORY, json: bool = JSON) -> int:
    """The branches of a repository and their commits."""
    return show_refs("branches", home_here().lake.branches(parse_repository(repository)), json=json)


@branches.command("delete")
def delete_branch(branch: str = BRANCH, yes: bool = YES, json: bool = JSON) -> int:
    """Forget a branch. What was committed stays for whoever names it; what is only staged is lost, so that is asked."""
    uri, lake = parse_ref(branch), home_here().lake
    if next(lake.changes(uri.repository, uri.ref), None):
        require_yes(f"delete {SCHEME}{uri.repository}/{uri.ref} with what is staged on it", yes=yes, json=json)
    lake.delete_branch(uri.repository, uri.ref)
    return deleted_ref(uri.repository, uri.ref, json=json)


# -- tags ---------------------------------------------------------------------------------------------


@tags.command("create")
def create_tag(
    tag: str = TAG,
    ref: str = typer.Argument(None, metavar="[REF]", help="What it names: a ref or URI."),
    source: str = typer.Option(None, "--from", metavar="REF", help="The same, as `branches create` has it."),
    json: bool = JSON,
) -> int:
    """Make a tag at any branch, tag or commit."""
    uri = parse_ref(tag)
    if (ref is None) == (source is None):
        raise UsageError("one ref is needed", hint="write engine lake tags create URI REF")
    head = home_here().lake.create_tag(uri.repository, uri.ref, ref_in(uri.repository, ref or source))
    return made_ref("tag", uri.repository, uri.ref, head, json=json)


@tags.command("list")
def list_tags(repository: str = REPOSITORY, json: bool = JSON) -> int:
    """The tags of a repository and their commits."""
    return show_refs("tags", home_here().lake.tags(parse_repository(repository)), json=json)


@tags.command("delete")
def delete_tag(
    tag: str = TAG,
    yes: bool = YES,  # noqa: ARG001  (as the others have it; nothing is lost that the commit's id does not bring back)
    json: bool = JSON,
) -> int:
    """Forget a tag; its commit stays."""
    uri = parse_ref(tag)
    home_here().lake.delete_tag(uri.repository, uri.ref)
    return deleted_ref(uri.repository, uri.ref, json=json)


# -- printing -----------------------------------------------------------------------------------------


def made_ref(kind: str, repository: str, name: str, head: str, *, json: bool) -> int:
    """Say that a branch or tag was made."""
    if json:
        view.document({"repository": repository, kind: name, "commit": head})
    else:
        view.line(f"created {SCHEME}{repository}/{name} at {view.short(head)}")
    return 0


def deleted_ref(repository: str, name: str, *, json: bool) -> int:
    """Say that a branch or tag is gone."""
    if json:
        view.document({"deleted": f"{SCHEME}{repository}/{name}"})
    else:
        view.line(f"deleted {SCHEME}{repository}/{terminal(name)}")
    return 0


def show_refs(key: str, found: Mapping[str, str], *, json: bool) -> int:
    """Print names and commits."""
    if json:
        view.document({key: [{"name": name, "commit": head} for name, head in found.items()]})
    elif found:
        view.table(["name", "commit"], [[name, head] for name, head in found.items()])
    else:
        view.line(f"no {key}")
    return 0

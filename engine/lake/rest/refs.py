"""Repositories, branches, tags, commits and what is done with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from starlette.responses import Response

from engine.errors import UsageError
from engine.lake.embedded.book import END
from engine.lake.protocol import DEFAULT_BRANCH, Difference, RefNotFound, Signed, Strategy
from engine.lake.rest import shapes
from engine.lake.rest.calls import Call, Rejected, document, nothing, page

# -- repositories -------------------------------------------------------------------------------------


def list_repositories(call: Call) -> Response:
    """``GET /repositories``."""
    found = [item for item in call.lake.repositories() if named(call, item.name)]
    return page(call, found, shapes.repository, lambda item: item.name)


def create_repository(call: Call) -> Response:
    """``POST /repositories``. What it says of storage is not needed here."""
    if call.body.get("read_only") is True or call.flag("bare"):
        raise Rejected(501, "repositories that are read-only or bare are not supported by this server")
    made = call.lake.create_repository(call.text("name"), call.text("default_branch", DEFAULT_BRANCH))
    return document(shapes.repository(made), 201)


def get_repository(call: Call) -> Response:
    """``GET /repositories/R``."""
    return document(shapes.repository(call.lake.get_repository(call.repository)))


def delete_repository(call: Call) -> Response:
    """``DELETE /repositories/R``."""
    call.lake.delete_repository(call.repository)
    return nothing()


def get_metadata(call: Call) -> Response:
    """``GET /repositories/R/metadata``: there is none."""
    call.lake.get_repository(call.repository)
    return document({})


def named(call: Call, name: str) -> bool:
    """Whether a name is in the stretch that a listing asks for."""
    words = call.query.get("search", "")
    return name.startswith(call.query.get("prefix", "")) and name > call.query.get("after", "") and words in name


# -- branches and tags --------------------------------------------------------------------------------


def list_branches(call: Call) -> Response:
    """``GET /repositories/R/branches``."""
    found = [item for item in call.lake.branches(call.repository).items() if named(call, item[0])]
    return page(call, found, shapes.ref, lambda item: item[0])


def create_branch(call: Call) -> Response:
    """``POST /repositories/R/branches``: the new branch's commit, as text."""
    head = call.lake.create_branch(call.repository, call.text("name"), call.text("source"))
    return Response(head, 201, media_type="text/html")


def get_branch(call: Call) -> Response:
    """``GET /repositories/R/branches/B``."""
    return document(shapes.ref((call.branch, head_of(call, "branch"))))


def delete_branch(call: Call) -> Response:
    """``DELETE /repositories/R/branches/B``."""
    if call.lake.get_repository(call.repository).default_branch == call.branch:
        raise Rejected(403, f"{call.branch} is the default branch of {call.repository}")
    call.lake.delete_branch(call.repository, call.branch)
    return nothing()


def list_tags(call: Call) -> Response:
    """``GET /repositories/R/tags``."""
    found = [item for item in call.lake.tags(call.repository).items() if named(call, item[0])]
    return page(call, found, shapes.ref, lambda item: item[0])


def create_tag(call: Call) -> Response:
    """``POST /repositories/R/tags``."""
    name = call.text("id")
    return document(shapes.ref((name, call.lake.create_tag(call.repository, name, call.text("ref")))), 201)


def get_tag(call: Call) -> Response:
    """``GET /repositories/R/tags/T``."""
    return document(shapes.ref((call.path["tag"], head_of(call, "tag"))))


def delete_tag(call: Call) -> Response:
    """``DELETE /repositories/R/tags/T``."""
    call.lake.delete_tag(call.repository, call.path["tag"])
    return nothing()


def head_of(call: Call, kind: str) -> str:
    """The commit of the branch or tag in the path."""
    known = (call.lake.branches if kind == "branch" else call.lake.tags)(call.repository)
    name = call.path[kind]
    if name not in known:
        raise RefNotFound(f"{kind} in {call.repository}:", name, known)
    return known[name]


def reset_branch(call: Call) -> Response:
    """``PUT /repositories/R/branches/B``: drop what is staged."""
    kind, path = call.text("type", "reset"), call.text("path", "")
    if kind not in ("reset", "object", "common_prefix"):
        raise Rejected(400, f"type in the body is {kind!r}: write reset, object or common_prefix")
    if kind != "reset" and not path:
        raise Rejected(400, "path in the body is missing")
    if kind == "object":
        call.lake.reset_path(call.repository, call.branch, path)
        return nothing()
    call.lake.reset_below(call.repository, call.branch, "" if kind == "reset" else path)
    return nothing()


def hard_reset(call: Call) -> Response:
    """``PUT /repositories/R/branches/B/hard_reset``."""
    return nothing(call.lake.hard_reset(call.repository, call.branch, call.wanted("ref")))


# -- commits ------------------------------------------------------------------------------------------


def signed(call: Call) -> Signed:
    """Who commits, which is whose key signed the request, and what they say."""
    message, metadata = call.text("message", ""), call.texts("metadata")
    return Signed(message=message, author=call.user, metadata=metadata, time=call.time("date"))


def commit(call: Call) -> Response:
    """``POST /repositories/R/branches/B/commits``."""
    by = signed(call)
    made = call.lake.commit_changes(
        call.repository, call.branch, by, {}, allow_empty=call.body.get("allow_empty") is True
    )
    return document(shapes.commit(call.lake.stored(call.repository, made.id)), 201)


def get_commit(call: Call) -> Response:
    """``GET /repositories/R/commits/C``."""
    id = call.lake.resolve(call.repository, call.path["commit"])
    return document(shapes.commit(call.lake.stored(call.repository, id)))


def diff_branch(call: Call) -> Response:
    """``GET /repositories/R/branches/B/diff``: what is staged."""
    prefix = call.query.get("prefix", "")
    found = call.lake.changes(call.repository, call.branch, prefix, after=behind(call))
    return differences(call, found, prefix)


def diff_refs(call: Call) -> Response:
    """``GET /repositories/R/refs/LEFT/diff/RIGHT``."""
    prefix, kind = call.query.get("prefix", ""), call.query.get("type", "three_dot")
    if kind not in ("two_dot", "three_dot"):
        raise Rejected(400, "the query parameter type is neither two_dot nor three_dot")
    sides = call.path["left"], call.path["right"]
    found = call.lake.diff(call.repository, *sides, prefix, after=behind(call), two_dot=kind == "two_dot")
    return differences(call, found, prefix)


def behind(call: Call) -> str:
    """The path behind which a page of differences begins; behind a folder, that is behind all that is in it."""
    after, delimiter = call.query.get("after", ""), call.query.get("delimiter", "")
    return after + END if delimiter and after.endswith(delimiter) else after


def differences(call: Call, found: Iterator[Difference], prefix: str) -> Response:
    """Differences, those that go on alike behind a delimiter as one."""
    delimiter = call.query.get("delimiter", "")
    if not delimiter:
        return page(call, found, shapes.difference, lambda item: item.path)
    return page(call, gathered(found, prefix, delimiter), lambda item: item, lambda item: str(item["path"]))


def gathered(found: Iterator[Difference], prefix: str, delimiter: str) -> Iterator[dict[str, Any]]:
    """Differences, and one for each folder that has some."""
    last = ""
    for item in found:
        end = item.path.find(delimiter, len(prefix))
        if end < 0:
            yield shapes.difference(item)
        elif item.path[: end + len(delimiter)] != last:
            last = item.path[: end + len(delimiter)]
            yield {"type": "prefix_changed", "path": last, "path_type": "common_prefix"}


def merge(call: Call) -> Response:
    """``POST /repositories/R/refs/SOURCE/merge/BRANCH``."""
    for unknown in ("squash_merge", "allow_empty"):
        if call.body.get(unknown) is True:
            raise Rejected(501, f"{unknown} is not supported by this server")
    strategy = cast("Strategy", call.text("strategy", ""))
    made = call.lake.merge(call.repository, call.path["source"], call.branch, signed(call), strategy=strategy)
    return document({"reference": made.id, "summary": {"added": 0, "changed": 0, "conflict": 0, "removed": 0}})


def find_merge_base(call: Call) -> Response:
    """``GET /repositories/R/refs/SOURCE/merge/BRANCH``."""
    ids = [call.lake.resolve(call.repository, ref) for ref in (call.path["source"], call.branch)]
    base = call.lake.merge_base(call.repository, *ids)
    return document({"source_commit_id": ids[0], "destination_commit_id": ids[1], "base_commit_id": base})


def revert(call: Call) -> Response:
    """``POST /repositories/R/branches/B/revert``."""
    number = parent_number(call)
    return nothing(call.lake.revert(call.repository, call.branch, call.text("ref"), overrides(call), parent=number))


def cherry_pick(call: Call) -> Response:
    """``POST /repositories/R/branches/B/cherry-pick``."""
    number = parent_number(call)
    made = call.lake.cherry_pick(call.repository, call.branch, call.text("ref"), overrides(call), parent=number)
    return document(shapes.commit(call.lake.stored(call.repository, made.id)), 201)


def overrides(call: Call) -> Signed:
    """What a commit says in the place of what it would."""
    return overrides_of(call, "commit_overrides")


def overrides_of(call: Call, key: str) -> Signed:
    """What a part of the body says of a commit."""
    found = call.body.get(key) or {}
    if not isinstance(found, dict):
        raise UsageError(f"{key} in the body is not a mapping")
    return signed(replace(call, body=found))


def parent_number(call: Call) -> int:
    """Which parent the body names, 0 for the only one."""
    return call.number("parent_number") or 0

"""What every lake does, whatever keeps it: diff, merge, revert, cherry-pick."""

from __future__ import annotations

import pytest

from engine.errors import UsageError
from engine.lake.protocol import DirtyBranch, MergeConflict, NothingToCommit
from lakes import Place, signed


@pytest.fixture
def parted(place: Place) -> Place:
    """Two branches that parted and changed what the other did, what it did not, and the same."""
    place.add(both="0", same="0", ours="0", theirs="0", gone="0", fought="0", kept="0", ours_gone="0")
    place.branch("dev")
    place.add("dev", both="2", same="1", theirs="1", gone=None, fought=None, added="2", alike="1", ours_gone="1")
    place.add("main", both="1", same="1", ours="1", fought="1", mine="1", alike="1", ours_gone=None)
    return place


CONFLICTS = {"both", "fought", "ours_gone"}


# -- diff ---------------------------------------------------------------------------------------------


def test_a_two_dot_diff_compares_two_versions_as_they_are(parted: Place) -> None:
    assert parted.diff("main", "dev", two_dot=True) == {
        "added": "added", "both": "changed", "fought": "removed", "gone": "removed", "mine": "removed",
        "ours": "changed", "ours_gone": "added", "theirs": "changed",
    }  # fmt: skip


def test_a_three_dot_diff_says_what_a_merge_would_bring(parted: Place) -> None:
    assert parted.diff("main", "dev") == {
        "added": "added", "both": "conflict", "fought": "conflict", "gone": "removed", "ours_gone": "conflict",
        "theirs": "changed",
    }  # fmt: skip
    assert parted.diff("dev", "main") == {
        "both": "conflict", "fought": "conflict", "mine": "added", "ours": "changed", "ours_gone": "conflict",
    }  # fmt: skip


def test_a_diff_of_a_version_with_itself_is_empty(parted: Place) -> None:
    for two_dot in (True, False):
        assert parted.diff("main", "main", two_dot=two_dot) == {}


def test_a_diff_is_of_what_is_committed(place: Place) -> None:
    place.add(a="1")
    place.branch("dev")
    place.put("b", "1", "dev")
    assert place.diff("main", "dev") == place.diff("main", "dev", two_dot=True) == {}


def test_a_diff_knows_prefix_and_after(place: Place) -> None:
    first = place.head()
    place.add(**dict.fromkeys(("a", "a/1", "a/2", "a/3", "b/1"), "x"))
    for two_dot in (True, False):
        assert list(place.diff(first, "main", prefix="a/", two_dot=two_dot)) == ["a/1", "a/2", "a/3"]
        assert list(place.diff(first, "main", after="a/2", two_dot=two_dot)) == ["a/3", "b/1"]
        assert list(place.diff(first, "main", prefix="a/", after="a/1", two_dot=two_dot)) == ["a/2", "a/3"]
        assert list(place.diff(first, "main", prefix="c", two_dot=two_dot)) == []


def test_a_diff_between_any_two_refs(place: Place) -> None:
    first = place.add(a="1").id
    place.lake.create_tag(place.name, "v1", "main")
    place.add(a="2", b="1")
    for left in ("v1", first, "main~1", first[:16]):
        assert place.diff(left, "main", two_dot=True) == {"a": "changed", "b": "added"}
        assert place.diff("main", left, two_dot=True) == {"a": "changed", "b": "removed"}


def test_content_that_went_and_came_back_is_no_difference(place: Place) -> None:
    first = place.add(a="1").id
    place.add(a="2")
    place.add(a="1")
    assert place.diff(first, "main", two_dot=True) == {}


# -- merge --------------------------------------------------------------------------------------------


def test_a_merge_into_a_branch_that_did_not_move_brings_all_and_has_two_parents(place: Place) -> None:
    ours = place.add(a="1", b="1").id
    place.branch("dev")
    place.add("dev", a="2", b=None, c="3")
    theirs = place.head("dev")
    made = place.merge("dev")
    assert made.parents == (ours, theirs)
    assert (made.message, place.head()) == ("merged", made.id)
    assert place.texts() == {"a": "2", "c": "3"}
    assert place.head("dev") == theirs


def test_a_merge_brings_together_what_both_sides_changed(place: Place) -> None:
    place.add(a="0", b="0", c="0")
    place.branch("dev")
    place.add("dev", a="1", added="1")
    place.add("main", b="2", c=None)
    place.merge("dev")
    assert place.texts() == {"a": "1", "added": "1", "b": "2"}
    assert place.texts("dev") == {"a": "1", "added": "1", "b": "0", "c": "0"}


def test_a_conflict_names_its_paths_and_leaves_everything_as_it_was(parted: Place) -> None:
    before = {name: (parted.head(name), parted.texts(name)) for name in ("main", "dev")}
    with pytest.raises(MergeConflict) as raised:
        parted.merge("dev")
    assert set(raised.value.paths) in (CONFLICTS, set())
    assert {name: (parted.head(name), parted.texts(name)) for name in ("main", "dev")} == before
    assert parted.changes() == {}


@pytest.mark.parametrize(
    ("strategy", "fought"),
    [
        ("source-wins", {"both": "2", "ours_gone": "1"}),
        ("dest-wins", {"both": "1", "fought": "1"}),
    ],
)
def test_a_strategy_says_whose_change_wins(parted: Place, strategy: str, fought: dict[str, str]) -> None:
    parted.merge("dev", strategy=strategy)
    agreed = {"added": "2", "alike": "1", "kept": "0", "mine": "1", "ours": "1", "same": "1", "theirs": "1"}
    assert parted.texts() == {**agreed, **fought}


def test_what_is_no_strategy_is_refused(parted: Place) -> None:
    with pytest.raises(UsageError):
        parted.merge("dev", strategy="theirs")


def test_the_same_change_on_both_sides_is_no_conflict(place: Place) -> None:
    place.add(a="0", b="0", c="0")
    place.branch("dev")
    place.add("dev", a="1", b=None, new="1", c="1")
    place.add("main", a="1", b=None, new="1")
    place.merge("dev")
    assert place.texts() == {"a": "1", "c": "1", "new": "1"}


def test_a_merge_into_a_branch_with_staged_changes_is_refused(place: Place) -> None:
    place.branch("dev")
    place.add("dev", a="1")
    place.put("b")
    head = place.head()
    with pytest.raises(DirtyBranch):
        place.merge("dev")
    assert (place.head(), place.changes()) == (head, {"b": "added"})


def test_what_is_staged_on_the_source_is_not_merged(place: Place) -> None:
    place.branch("dev")
    place.add("dev", a="1")
    place.put("b", "1", "dev")
    place.merge("dev")
    assert place.paths() == ["a"]
    assert place.changes("dev") == {"b": "added"}


def test_a_merge_of_nothing_new_is_refused(place: Place) -> None:
    place.add(a="1")
    place.branch("dev")
    place.add(a="2")
    head = place.head()
    with pytest.raises(NothingToCommit):
        place.merge("dev")
    assert place.head() == head


def test_what_was_merged_is_not_merged_again(place: Place) -> None:
    place.branch("dev")
    place.add("dev", a="1")
    place.merge("dev")
    with pytest.raises(NothingToCommit):
        place.merge("dev")
    place.add(a="2")
    place.add("dev", b="1")
    place.merge("dev")
    assert place.texts() == {"a": "2", "b": "1"}


def test_any_ref_can_be_merged(place: Place) -> None:
    place.branch("dev")
    first = place.add("dev", a="1").id
    place.lake.create_tag(place.name, "v2", place.add("dev", b="1").id)
    place.add("dev", c="1")
    place.merge(first)
    assert place.paths() == ["a"]
    place.merge("v2")
    assert place.paths() == ["a", "b"]
    place.merge("dev~0")
    assert place.paths() == ["a", "b", "c"]


def test_branches_that_were_merged_crosswise_still_merge(place: Place) -> None:
    place.add(base="0")
    place.branch("dev")
    place.add("main", a="1")
    place.add("dev", b="1")
    main, dev = place.head(), place.head("dev")
    place.merge(dev, "main")
    place.merge(main, "dev")
    place.add("main", base="1")
    place.add("dev", c="1")
    place.merge("dev", "main")
    assert place.texts() == {"a": "1", "b": "1", "base": "1", "c": "1"}


def test_the_log_of_a_merge_has_both_sides_and_its_first_parents_only_one(place: Place) -> None:
    root = place.head()
    place.branch("dev")
    theirs = [place.add("dev", a=number).id for number in "12"]
    ours = place.add(b="1").id
    made = place.merge("dev").id
    assert place.log()[0] == made
    assert set(place.log()) == {made, ours, *theirs, root}
    assert len(place.log()) == 5
    assert place.log(first_parent=True) == [made, ours, root]


def test_a_commit_comes_before_its_parents_in_the_log(parted: Place) -> None:
    parted.merge("dev", strategy="source-wins")
    parted.merge("main", "dev")
    commits = list(parted.lake.log(parted.name, "dev"))
    at = {commit.id: number for number, commit in enumerate(commits)}
    assert all(at[commit.id] < at[parent] for commit in commits for parent in commit.parents)


# -- revert -------------------------------------------------------------------------------------------


def test_a_revert_undoes_a_commit_and_nothing_else(place: Place) -> None:
    place.add(changed="0", removed="0", kept="0")
    made = place.add(changed="1", removed=None, added="1")
    place.add(later="1")
    head = place.head()
    undone = place.lake.revert(place.name, "main", made.id, signed("undo"))
    assert (undone.parents, undone.message, place.head()) == ((head,), "undo", undone.id)
    assert place.texts() == {"changed": "0", "kept": "0", "later": "1", "removed": "0"}


def test_a_revert_without_a_message_gets_one(place: Place) -> None:
    place.add(a="1")
    made = place.add(a="2")
    assert made.id in place.lake.revert(place.name, "main", "main", signed("")).message


def test_a_revert_of_what_was_changed_again_is_a_conflict(place: Place) -> None:
    place.add(a="0")
    made = place.add(a="1")
    head = place.add(a="2").id
    with pytest.raises(MergeConflict):
        place.lake.revert(place.name, "main", made.id, signed())
    assert (place.head(), place.texts()) == (head, {"a": "2"})


def test_a_revert_on_a_branch_with_staged_changes_is_refused(place: Place) -> None:
    place.add(a="1")
    place.put("b")
    with pytest.raises(DirtyBranch):
        place.lake.revert(place.name, "main", "main", signed())
    assert place.changes() == {"b": "added"}


def test_a_revert_of_a_merge_needs_a_parent_and_undoes_what_the_merge_did_against_it(place: Place) -> None:
    place.branch("dev")
    place.add("dev", theirs="1")
    place.add(ours="1")
    made = place.merge("dev").id
    for parent in (0, 3):
        with pytest.raises(UsageError):
            place.lake.revert(place.name, "main", made, signed(), parent=parent)
    place.lake.revert(place.name, "main", made, signed(), parent=1)
    assert place.texts() == {"ours": "1"}
    place.branch("other", made)
    place.lake.revert(place.name, "other", made, signed(), parent=2)
    assert place.texts("other") == {"theirs": "1"}


def test_a_revert_of_a_revert_brings_it_back(place: Place) -> None:
    place.add(a="0")
    place.add(a="1", b="1")
    for expected in ({"a": "0"}, {"a": "1", "b": "1"}):
        place.lake.revert(place.name, "main", "main", signed())
        assert place.texts() == expected


# -- cherry-pick --------------------------------------------------------------------------------------


def test_a_cherry_pick_does_again_what_one_commit_did(place: Place) -> None:
    place.add(a="0", b="0")
    place.branch("dev")
    place.add("dev", before="1")
    picked = place.add("dev", a="1", b=None, c="1")
    place.add("dev", after="1")
    head = place.head()
    made = place.lake.cherry_pick(place.name, "main", picked.id, signed(""))
    assert (made.parents, made.message) == ((head,), picked.message)
    assert place.texts() == {"a": "1", "c": "1"}


def test_a_cherry_pick_onto_another_change_is_a_conflict(place: Place) -> None:
    place.add(a="0")
    place.branch("dev")
    picked = place.add("dev", a="1")
    head = place.add(a="2").id
    with pytest.raises(MergeConflict):
        place.lake.cherry_pick(place.name, "main", picked.id, signed(""))
    assert (place.head(), place.texts()) == (head, {"a": "2"})


def test_a_cherry_pick_on_a_branch_with_staged_changes_is_refused(place: Place) -> None:
    place.branch("dev")
    picked = place.add("dev", a="1")
    place.put("b")
    with pytest.raises(DirtyBranch):
        place.lake.cherry_pick(place.name, "main", picked.id, signed(""))
    assert place.changes() == {"b": "added"}


def test_a_cherry_pick_of_a_merge_needs_a_parent(place: Place) -> None:
    place.branch("other")
    place.branch("dev")
    place.add("dev", theirs="1")
    place.add(ours="1")
    made = place.merge("dev").id
    with pytest.raises(UsageError):
        place.lake.cherry_pick(place.name, "other", made, signed(""))
    place.lake.cherry_pick(place.name, "other", made, signed(""), parent=1)
    assert place.texts("other") == {"theirs": "1"}

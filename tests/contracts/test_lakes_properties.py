"""Every lake against a model of a few lines: dictionaries for trees, sets for ancestors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from engine.lake.protocol import DirtyBranch, MergeConflict, NothingToCommit, ObjectNotFound
from lakes import Kind, Place, new_place

Tree = dict[str, str]
PATHS = st.sampled_from(["a", "a/", "a/b", "a/c", "b", "ab"])
TEXTS = st.sampled_from(["1", "2"])
BRANCHES = st.sampled_from(["main", "dev", "old"])
STRATEGIES = st.sampled_from(["", "", "source-wins", "dest-wins"])


# -- the model ----------------------------------------------------------------------------------------


@dataclass
class Known:
    """A commit: what is in it, and its parents."""

    tree: Tree
    parents: tuple[str, ...]


@dataclass
class Model:
    """A repository as dictionaries. ``staged`` are whole trees, as a branch shows them."""

    commits: dict[str, Known] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    staged: dict[str, Tree] = field(default_factory=dict)

    def tree(self, branch: str) -> Tree:
        """What is committed on a branch."""
        return self.commits[self.heads[branch]].tree

    def commit(self, branch: str, id: str, tree: Tree, *others: str) -> None:
        """Move a branch on."""
        self.commits[id] = Known(dict(tree), (self.heads[branch], *others))
        self.heads[branch] = id
        self.staged[branch] = dict(tree)

    def ancestors(self, id: str) -> set[str]:
        """A commit and all that it came from."""
        return {id}.union(*(self.ancestors(parent) for parent in self.commits[id].parents))

    def bases(self, left: str, right: str) -> list[Tree]:
        """The best common ancestors: those that no other one comes from."""
        common = self.ancestors(left) & self.ancestors(right)
        best = {id for id in common if not any(id in self.ancestors(other) - {other} for other in common)}
        return [self.commits[id].tree for id in best]


def differences(left: Tree, right: Tree) -> dict[str, str]:
    """What ``right`` has that ``left`` has not."""
    kinds = {(True, False): "removed", (False, True): "added", (True, True): "changed"}
    paths = sorted({*left, *right}, key=str.encode)
    return {path: kinds[path in left, path in right] for path in paths if left.get(path) != right.get(path)}


def brought(base: Tree, ours: Tree, theirs: Tree) -> dict[str, str]:
    """What a merge brings: the changes of the one side, and where they fight those of the other."""
    return {
        path: "conflict" if ours.get(path) != base.get(path) else change
        for path, change in differences(base, theirs).items()
        if ours.get(path) != theirs.get(path)
    }


def merged(base: Tree, ours: Tree, theirs: Tree, strategy: str) -> Tree | None:
    """What comes of a merge; ``None`` for a conflict."""
    tree = dict(ours)
    for path, change in brought(base, ours, theirs).items():
        if change == "conflict" and not strategy:
            return None
        if change == "conflict" and strategy == "dest-wins":
            continue
        tree.pop(path, None)
        if path in theirs:
            tree[path] = theirs[path]
    return tree


def listing(tree: Tree, prefix: str, after: str, delimiter: str) -> Iterator[str]:
    """What a listing gives."""
    last = after
    for path in sorted(tree, key=str.encode):
        rest = path.removeprefix(prefix)
        if not path.startswith(prefix) or path <= after:
            continue
        shown = prefix + rest.partition(delimiter)[0] + delimiter if delimiter and delimiter in rest else path
        if shown not in (last, path) and after.startswith(shown):
            continue
        if shown != last or shown == path:
            yield shown
        last = shown


# -- the machine --------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Does the same to a lake and to the model, and compares."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.context = new_place(kind)
        self.place: Place = self.context.__enter__()
        first = self.place.head()
        self.model = Model({first: Known({}, ())}, {"main": first}, {"main": {}})

    def teardown(self) -> None:
        for branch, tree in self.model.staged.items():
            assert self.place.texts(branch) == tree
            assert self.place.texts(f"{branch}@") == self.model.tree(branch)
            assert self.place.changes(branch) == differences(self.model.tree(branch), tree)
            assert set(self.place.log(branch)) == self.model.ancestors(self.model.heads[branch])
        self.context.__exit__(None, None, None)

    def on(self, branch: str) -> str:
        """A branch that is there."""
        return branch if branch in self.model.heads else "main"

    @rule(branch=BRANCHES, path=PATHS, text=TEXTS)
    def put(self, branch: str, path: str, text: str) -> None:
        branch = self.on(branch)
        self.place.put(path, text, branch)
        self.model.staged[branch][path] = text

    @rule(branch=BRANCHES, path=PATHS)
    def delete(self, branch: str, path: str) -> None:
        branch = self.on(branch)
        if path in self.model.staged[branch]:
            self.place.lake.delete(self.place.name, branch, path)
            del self.model.staged[branch][path]
        else:
            with pytest.raises(ObjectNotFound):
                self.place.lake.delete(self.place.name, branch, path)

    @rule(branch=BRANCHES)
    def commit(self, branch: str) -> None:
        branch = self.on(branch)
        if self.model.staged[branch] == self.model.tree(branch):
            with pytest.raises(NothingToCommit):
                self.place.commit(branch=branch)
        else:
            self.model.commit(branch, self.place.commit(branch=branch).id, self.model.staged[branch])

    @rule(branch=BRANCHES, path=st.one_of(st.just(""), PATHS))
    def reset(self, branch: str, path: str) -> None:
        branch = self.on(branch)
        self.place.lake.reset(self.place.name, branch, path)
        before, now = self.model.tree(branch), self.model.staged[branch]
        dropped = {
            name for name in {*before, *now} if name == path or (path[-1:] in ("", "/") and name.startswith(path))
        }
        kept = {name: text for name, text in now.items() if name not in dropped}
        self.model.staged[branch] = {**kept, **{name: before[name] for name in dropped if name in before}}

    @rule(name=BRANCHES, source=BRANCHES)
    def branch(self, name: str, source: str) -> None:
        source = self.on(source)
        if name not in self.model.heads:
            self.place.branch(name, source)
            self.model.heads[name] = self.model.heads[source]
            self.model.staged[name] = dict(self.model.tree(source))

    @rule(source=BRANCHES, destination=BRANCHES, strategy=STRATEGIES)
    def merge(self, source: str, destination: str, strategy: str) -> None:
        source, destination = self.on(source), self.on(destination)
        theirs, ours = self.model.heads[source], self.model.heads[destination]
        bases = self.model.bases(ours, theirs)
        trees = self.model.tree(source), self.model.tree(destination)
        outcomes = [merged(base, trees[1], trees[0], strategy) for base in bases]
        try:
            made = self.place.merge(source, destination, strategy)
        except NothingToCommit:
            assert trees[0] in bases or trees[1] in outcomes
        except MergeConflict:
            assert None in outcomes
        except DirtyBranch:
            assert self.model.staged[destination] != trees[1]
        else:
            assert self.model.staged[destination] == trees[1]
            assert made.parents == (ours, theirs)
            found = self.place.texts(made.id)
            assert found in outcomes
            self.model.commit(destination, made.id, found, theirs)

    @rule(left=BRANCHES, right=BRANCHES)
    def diff(self, left: str, right: str) -> None:
        left, right = self.on(left), self.on(right)
        ours, theirs = self.model.tree(left), self.model.tree(right)
        assert self.place.diff(left, right, two_dot=True) == differences(ours, theirs)
        bases = self.model.bases(self.model.heads[left], self.model.heads[right])
        assert self.place.diff(left, right) in [brought(base, ours, theirs) for base in bases]


SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def test_a_lake_does_what_dictionaries_do(kind: Kind) -> None:
    run_state_machine_as_test(
        lambda: Machine(kind), settings=settings(SETTINGS, max_examples=kind.examples, stateful_step_count=25)
    )


TREES = st.dictionaries(PATHS, TEXTS, max_size=6)


def become(place: Place, branch: str, tree: Tree) -> None:
    """Commit what makes a branch hold ``tree``."""
    before = place.texts(branch)
    for path in differences(before, tree):
        if path in tree:
            place.put(path, tree[path], branch)
        else:
            place.lake.delete(place.name, branch, path)
    if before != tree:
        place.commit(f"on {branch}", branch)  # an equal commit on the other branch would be the same one


def test_a_diff_and_a_merge_are_what_comparing_three_trees_gives(kind: Kind) -> None:
    @settings(SETTINGS, max_examples=2 * kind.examples)
    @given(base=TREES, ours=TREES, theirs=TREES, strategy=st.sampled_from(["", "source-wins", "dest-wins"]))
    def check(base: Tree, ours: Tree, theirs: Tree, strategy: str) -> None:
        with new_place(kind) as place:
            become(place, "main", base)
            place.branch("dev")
            become(place, "main", ours)
            become(place, "dev", theirs)
            assert place.diff("main", "dev", two_dot=True) == differences(ours, theirs)
            assert place.diff("main", "dev") == brought(base, ours, theirs)
            expected = merged(base, ours, theirs, strategy)
            if not brought(base, ours, theirs):
                return  # lakes may refuse this, or make a commit that changes nothing
            if expected is None:
                with pytest.raises(MergeConflict):
                    place.merge("dev")
            else:
                place.merge("dev", strategy=strategy)
            assert place.texts() == (ours if expected is None else expected)

    check()


NAMES = st.text(alphabet="ab/é", min_size=1, max_size=5)


def test_a_listing_is_what_sorting_gives(kind: Kind) -> None:
    @settings(SETTINGS, max_examples=kind.examples)
    @given(
        committed=st.sets(NAMES, max_size=6),
        staged=st.sets(NAMES, max_size=4),
        asked=st.lists(
            st.tuples(
                st.text(alphabet="ab/é", max_size=3),
                st.text(alphabet="ab/é", max_size=4),
                st.sampled_from(["", "/", "/", "b", "a/"]),
            ),
            min_size=10,
            max_size=10,
        ),
    )
    def check(committed: set[str], staged: set[str], asked: list[tuple[str, str, str]]) -> None:
        with new_place(kind) as place:
            for path in sorted(committed):
                place.put(path)
            if committed:
                place.commit()
            for path in sorted(staged):
                place.put(path)
            tree = dict.fromkeys({*committed, *staged}, "x")
            for prefix, after, delimiter in asked:
                assert place.paths("main", prefix, after, delimiter) == list(listing(tree, prefix, after, delimiter))

    check()

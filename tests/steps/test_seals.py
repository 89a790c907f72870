"""The home's key: made once, whole, for its owner alone."""

from __future__ import annotations

import stat
from functools import partial
from pathlib import Path

import pytest

from engine.errors import StepFailed
from engine.steps.context import Context
from engine.steps.seals import home_key
from engine.store.objects import ObjectStore
from moments import killed


def test_a_key_whose_making_is_killed_at_any_moment_is_made_by_the_next(tmp_path: Path) -> None:
    moment = 0
    while killed(partial(home_key, home := tmp_path / str(moment)), tmp_path, moment):
        assert len(home_key(home)) == 32
        assert home_key(home) == home_key(home)
        moment += 1
    assert moment >= 4  # a folder, a lock, the key, its name


def test_a_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    home_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "home.key").stat().st_mode) == 0o600


def context_in(home: Path, store: ObjectStore) -> Context:
    return Context(store=store, home=home, run_id="", step="train")


def test_a_native_model_is_read_only_by_the_home_that_wrote_it(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "objects")
    kept = context_in(tmp_path / "one", store).put_private({"a": 1})
    assert context_in(tmp_path / "one", store).private(kept) == {"a": 1}
    with pytest.raises(StepFailed, match="not written by this Engine home"):
        context_in(tmp_path / "other", store).private(kept)


def test_what_was_sealed_with_another_key_is_refused_until_it_is_kept_anew(tmp_path: Path) -> None:
    context = context_in(tmp_path, ObjectStore(tmp_path / "objects"))
    kept = context.put_private({"a": 1})
    (tmp_path / "home.key").unlink()
    with pytest.raises(StepFailed, match="not written by this Engine home"):
        context.private(kept)
    assert context.private(context.put_private({"a": 1})) == {"a": 1}


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "home.key").write_bytes(b"short")
    with pytest.raises(StepFailed, match="damaged"):
        home_key(tmp_path)

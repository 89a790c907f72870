"""The code behind a component: which sources count, and which do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.digest import sha256
from engine.errors import NotFound, UsageError
from engine.resolve.closure import SourceIndex, closure
from engine.resolve.installed import Installed, survey
from engine.resolve.questions import CodeQuestion, mentions

FILES = {
    "trainer.py": "import package.deep\nfrom package import thing\nclass T: ...\n",
    "package/__init__.py": "from . import inner\n",
    "package/deep.py": "from .inner import helper\n",
    "package/inner.py": "import numpy as np\nhelper = 1\n",
    "package/thing.py": "",
    "package/unused.py": "",
    "stranger.py": "",
    "only_types.py": "",
    "typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import only_types\n",
    "lazy.py": "def f():\n    import stranger\n    return stranger\n",
    "tried.py": "try:\n    import nowhere\nexcept ImportError:\n    nowhere = None\n",
    "ring_a.py": "import ring_b\n",
    "ring_b.py": "import ring_a\n",
    "space/part.py": "from space import other\n",
    "space/other.py": "",
    "star.py": "from package.inner import *\n",
    "broken.py": "def oh no(:\n",
    "uses_broken.py": "import broken\n",
}
NOTHING = Installed(provides={}, versions={}, needs={})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def modules(root: Path, name: str, *mentioned: str) -> set[str]:
    """The project's modules behind the class ``T`` of the module ``name``."""
    question = CodeQuestion(name=f"{name}:T", kind="trainer", mentions=mentioned)
    return set(closure(question, SourceIndex((root,)), NOTHING).modules)


PACKAGE = {"package", "package.deep", "package.inner", "package.thing"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("trainer", {"trainer", *PACKAGE}),
        ("package.deep", {"package", "package.deep", "package.inner"}),
        ("typed", {"typed"}),
        ("lazy", {"lazy", "stranger"}),
        ("tried", {"tried"}),
        ("ring_a", {"ring_a", "ring_b"}),
        ("space.part", {"space.part", "space.other"}),
        ("star", {"star", "package", "package.inner"}),
    ],
)
def test_the_closure_is_what_would_be_imported(root: Path, name: str, found: set[str]) -> None:
    assert modules(root, name) == found


def test_code_that_a_parameter_names_counts(root: Path) -> None:
    assert "package.thing" in modules(root, "typed", "package.thing:function")
    assert "package.inner" in modules(root, "typed", "package.inner.helper")


def test_a_source_is_known_by_its_bytes(root: Path) -> None:
    question = CodeQuestion(name="typed:T", kind="trainer")
    found = closure(question, SourceIndex((root,)), NOTHING)
    assert found.modules == {"typed": sha256((root / "typed.py").read_bytes())}


def test_a_module_that_is_not_there_is_not_found(root: Path) -> None:
    with pytest.raises(NotFound, match="nobody"):
        modules(root, "nobody")


def test_a_source_that_does_not_parse_is_refused_with_its_line(root: Path) -> None:
    with pytest.raises(UsageError) as raised:
        modules(root, "uses_broken")
    assert raised.value.place.endswith("broken.py:1:8")


def test_the_steps_of_engine_count_and_its_other_packages_do_not() -> None:
    found = closure(CodeQuestion(name="engine.steps.gate"), SourceIndex(()), NOTHING).modules
    assert {"engine.steps.gate", "engine.steps.compare", "engine.steps.metrics"} <= found.keys()
    assert not [name for name in found if not name.startswith("engine.steps")]


def test_a_step_does_not_depend_on_ray_or_on_the_command_line() -> None:
    for step in ("ingest", "validate", "train", "export", "evaluate", "gate", "detect", "register", "transform"):
        found = closure(CodeQuestion(name=f"engine.steps.{step}"), SourceIndex(()), survey()).distributions
        assert "pyarrow" in found, step
        assert not {"ray", "typer", "rich", "hydra-core"} & found.keys(), step


def test_a_distribution_brings_what_it_needs() -> None:
    installed = Installed(
        provides={"a": ["A"], "json": ["evil"]},
        versions={"A": "1", "b": "2", "c": "3", "evil": "6"},
        needs={"A": ["b", "gone"], "b": ["A"]},
    )
    assert installed.behind(["a", "json"], "c") == {"A": "1", "b": "2", "c": "3"}


# -- the cache of imports --------------------------------------------------------------------------------------


def test_the_cache_gives_the_same_closure_and_sees_a_change(root: Path) -> None:
    cache = root / "cache" / "imports.json"

    def found() -> dict[str, str]:
        index = SourceIndex((root,), cache)
        result = dict(closure(CodeQuestion(name="lazy:T", kind="trainer"), index, NOTHING).modules)
        index.save()
        return result

    first = found()
    assert cache.is_file()
    assert found() == first
    (root / "stranger.py").write_text("import typed\n")
    assert found().keys() == {"lazy", "stranger", "typed"}


def test_a_damaged_cache_is_forgotten(root: Path) -> None:
    cache = root / "imports.json"
    for text in ("{", "[]", '"x"', ""):
        cache.write_text(text)
        index = SourceIndex((root,), cache)
        assert closure(CodeQuestion(name="typed:T", kind="trainer"), index, NOTHING).modules


def test_a_file_that_is_replaced_by_one_of_the_same_size_is_read_again(root: Path) -> None:
    index = SourceIndex((root,))
    path = root / "typed.py"
    before = index.read("typed", path).digest
    stat = path.stat()
    path.write_bytes(path.read_bytes().replace(b"only", b"none"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert index.read("typed", path).digest != before


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("sklearn.ensemble.RandomForestClassifier", ["sklearn.ensemble.RandomForestClassifier"]),
        ("mine:function", ["mine:function"]),
        ({"a": ["x.y", {"b": "z.w:f"}]}, ["x.y", "z.w:f"]),
        ("select a.b from t", []),
        ("word", []),
        ("1.5", []),
        (1.5, []),
    ],
)
def test_a_text_that_could_name_code_is_asked_about(value: object, found: list[str]) -> None:
    assert list(mentions(value)) == found

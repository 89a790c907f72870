"""What a component takes is read from its source, and nothing of it is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.plugins import Description, describe, find

SOURCE = '''
from dataclasses import dataclass
from typing import ClassVar
from elsewhere import Stranger

raise RuntimeError("nobody may import this")


@dataclass
class Shared:
    """What all have."""

    kind: ClassVar[str]
    depth: int = 3
    rate: float = 0.1


@dataclass
class More:
    more: bool = False


class Same(Shared):
    """Takes what all take.

    And nothing else.
    """

    kind = "same"


@dataclass
class Own(Stranger, Shared, More):
    rate: float = 0.5
    name: str


class Open:
    def __init__(self, depth, **others): ...


class Opened(Open):
    pass


class Closed(Open):
    def __init__(self, depth=1): ...


class Twice(Shared):
    pass


class Twice(Twice):
    pass


def function(table, most: int = 9): ...
'''


def described(folder: Path, name: str) -> Description:
    (folder / "shapes.py").write_text(SOURCE)
    return describe(find("trainer", f"shapes:{name}"), [folder])


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("Shared", ["depth: int = 3", "rate: float = 0.1"]),
        ("Same", ["depth: int = 3", "rate: float = 0.1"]),
        ("Own", ["more: bool = False", "depth: int = 3", "rate: float = 0.5", "name: str"]),
        ("Open", ["depth: "]),
        ("Opened", ["depth: "]),
        ("Closed", ["depth:  = 1"]),
        ("Twice", []),
        ("function", ["most: int = 9"]),
    ],
)
def test_a_class_takes_what_it_and_its_bases_in_the_same_module_say(
    tmp_path: Path, name: str, takes: list[str]
) -> None:
    found = described(tmp_path, name).parameters
    assert [
        f"{item.name}: {item.annotation}" + (f" = {item.default}" if item.default else "") for item in found
    ] == takes


@pytest.mark.parametrize(("name", "answer"), [("Same", False), ("Open", True), ("Opened", True), ("Closed", False)])
def test_a_class_is_open_ended_when_its_init_or_the_one_it_inherits_is(tmp_path: Path, name: str, answer: bool) -> None:
    assert described(tmp_path, name).open_ended is answer


def test_a_parameter_without_a_default_is_required(tmp_path: Path) -> None:
    assert [item.name for item in described(tmp_path, "Own").parameters if item.required] == ["name"]


def test_the_summary_is_the_classs_own(tmp_path: Path) -> None:
    assert described(tmp_path, "Same").summary == "Takes what all take."


def test_a_base_that_is_imported_says_what_it_takes_and_its_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "bases.py").write_text(
        "from further import Root\n\nraise RuntimeError\n\n\nclass Base(Root):\n    depth: int = 3\n"
    )
    (tmp_path / "further.py").write_text("from bases import Base\n\n\nclass Root:\n    seconds: float\n")
    (tmp_path / "shapes.py").write_text("from bases import Base as Above\n\n\nclass Own(Above):\n    rate: float\n")
    with pytest.raises(NotFound):
        describe(find("trainer", "shapes:Above"), [tmp_path])
    (tmp_path / "shapes.py").write_text("from bases import Base\n\n\nclass Own(Base):\n    rate: float\n")
    found = describe(find("trainer", "shapes:Own"), [tmp_path])
    assert [item.name for item in found.parameters] == ["seconds", "depth", "rate"]
    assert sorted(found.sources) == ["bases", "further", "shapes"]


def test_a_base_whose_source_does_not_parse_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "bases.py").write_text("class Base(:\n")
    (tmp_path / "shapes.py").write_text("from bases import Base\n\n\nclass Own(Base):\n    rate: float\n")
    found = describe(find("trainer", "shapes:Own"), [tmp_path])
    assert [item.name for item in found.parameters] == ["rate"]


@pytest.mark.parametrize("name", ["ks", "chi2", "wasserstein", "unseen", "missing"])
def test_the_shipped_detectors_say_what_they_take(name: str) -> None:
    found = describe(find("detector", name))
    assert [item.name for item in found.parameters] == ["p_val", "features", "correction", "reference_rows"]
    assert found.summary

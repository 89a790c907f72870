"""Files that are no specs at all: what is said of each, and of which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import EngineError, SpecInvalid
from engine.spec.load import load

RAW: list[tuple[str, str]] = [
    ("", "the file is empty"),
    ("- a\n- b\n", "the file is not a mapping of keys to values"),
    ("a: [1, 2\nb: 3\n", "not YAML"),
    ("a:\t- b\n  c: d: e\n", "not YAML"),
    ("name: a1\nname: b1\n", 'the key "name" is here twice'),
    ("on: 1\n", "YAML reads the key `on` as a boolean"),
    ("name: a1\n_target_: os.system\n", "`_target_` is not allowed in a spec"),
    ("hydra: {run: {dir: x}}\n", "`hydra.run` is not allowed in a spec"),
    ("name: ${now:%Y}\n", "changes from run to run"),
    ("a: &a [1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
     "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n", "too deep, or too many aliases"),
    ("a: &a [*a]\n", "too deep, or too many aliases"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), RAW)
def test_a_file_that_is_no_spec_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "raw.yaml"
    path.write_text(text)
    with pytest.raises(SpecInvalid) as raised:
        load(path)
    assert says in str(raised.value)
    assert raised.value.problems[0].place.line >= 1


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(SpecInvalid, match="cannot be read"):
        load(path)


def test_a_missing_spec_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("")
    with pytest.raises(EngineError, match='did you mean "spec.yaml"'):
        load("specc.yaml", folder=tmp_path)

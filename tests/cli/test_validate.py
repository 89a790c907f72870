"""``engine validate``: what is checked, how it is told, and the exit code."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from end_to_end.terminal import shown
from engine.errors import NotFound
from engine.spec.find import NEEDED, is_spec, specs_at
from engine.spec.model import Spec
from projects import SCHEMA, SPEC, Done, Project, make_project

Answer = Callable[..., Done]
TYPO = {"train.uses": "sklern"}
SAID = "spec.yaml:16:9 train.uses: no trainer plugin 'sklern'; did you mean \"sklearn\"?  [plugin-unknown]"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("validate") / "project")


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(made.root, tmp_path / "project"))


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Put bytes on standard input."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


# -- which specs -------------------------------------------------------------------------------------------


GROUP = "uses: my_trainer:Linear\ndata: train\n"
BESIDE = {
    "schema.yaml": yaml.safe_dump(SCHEMA),
    "train/linear.yaml": GROUP,
    "experiment/fast.yaml": "# @package _global_\nname: fast\ndata: {}\ntrain: {}\nevaluate: {}\n",
    "_lakefs_actions/check.yaml": "name: check\non: {pre-merge: {}}\nhooks: []\n",
    ".github/workflows/ci.yml": "name: ci\non: push\njobs: {}\n",
    ".hidden/spec.yaml": yaml.safe_dump(SPEC),
    "venv/pyvenv.cfg": "",
    "venv/spec.yaml": yaml.safe_dump(SPEC),
    "notes.txt": yaml.safe_dump(SPEC),
    "groups/empty.yaml": "",
    "bytes.yaml": "\x00\xff",
}
SPECS = {
    "a.yaml": yaml.safe_dump(SPEC),
    "broken.yaml": "name: x\ndata: {train: [}\ntrain: {}\nfeatures:\n",
    "deep/typo.yml": "nam: x\ndata: {}\nfeatures: {}\ntarget: y\n",
    "grouped.yaml": "defaults:\n  - train: linear\n  - /data@data: flights\n  - _self_\nname: x\n",
    "nightly.yaml": "defaults: [a, _self_]\nname: nightly\n",
    "emptied.yaml": "# a spec lies beside it\n",
    "quoted.yaml": '"name": x\n"data": {}\n"target": y\n',
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def test_of_a_folder_every_spec_is_taken_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, {**BESIDE, **SPECS})
    assert specs_at(".", tmp_path) == sorted(SPECS, key=lambda name: ("/" in name, name))


def test_specs_in_a_folder_are_named_below_it_as_it_was_typed(tmp_path: Path) -> None:
    write(tmp_path, {"specs/a.yaml": yaml.safe_dump(SPEC)})
    assert specs_at("specs/", tmp_path) == ["specs/a.yaml"]
    assert specs_at("./specs", tmp_path) == ["specs/a.yaml"]
    assert specs_at(str(tmp_path), Path.cwd()) == [str(tmp_path / "specs/a.yaml")]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("*.yaml", ["a.yaml"]), ("**/*.y*ml", ["a.yaml", "deep/b.yml"]), ("d[a-e]*/*.yml", ["deep/b.yml"])],
)
def test_a_pattern_means_the_specs_that_match(tmp_path: Path, pattern: str, found: list[str]) -> None:
    write(tmp_path, {**BESIDE, "a.yaml": yaml.safe_dump(SPEC), "deep/b.yml": yaml.safe_dump(SPEC)})
    assert specs_at(pattern, tmp_path) == found


@pytest.mark.parametrize("given", ["schemas", "*.yaml", "nothing/**/*.yaml"])
def test_a_folder_or_pattern_without_a_spec_is_named(tmp_path: Path, given: str) -> None:
    write(tmp_path, {"schemas/a.yaml": "columns: {}\n"})
    with pytest.raises(NotFound, match="a spec is a YAML file with name, data, features, target, train, evaluate"):
        specs_at(given, tmp_path)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    write(tmp_path, {"a[1].yaml": "seed: 7\n"})
    assert specs_at("a[1].yaml", tmp_path) == ["a[1].yaml"]


def test_specs_that_extend_each_other_in_a_circle_are_looked_at_once(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": "defaults: [b]\n", "b.yaml": "defaults: [a]\n"})
    assert not is_spec(tmp_path / "a.yaml")


def test_the_sections_by_which_a_spec_is_known_are_those_that_it_needs() -> None:
    assert tuple(name for name, info in Spec.model_fields.items() if info.is_required()) == NEEDED


def test_a_spec_that_is_named_twice_is_checked_once(project: Project, answer: Answer) -> None:
    assert answer(project.root, "validate", "spec.yaml", ".", "*.yaml").out == "spec.yaml: valid\n"


# -- standard input and overrides ----------------------------------------------------------------------------


def test_a_spec_on_standard_input_is_read_as_if_it_were_here(
    project: Project, answer: Answer, typed: Callable[[bytes], None]
) -> None:
    typed(project.spec.read_bytes())
    assert answer(project.root, "validate", "-") == Done(0, "-: valid\n", "")


def test_a_spec_on_standard_input_is_composed_with_the_groups_here(
    project: Project, answer: Answer, typed: Callable[[bytes], None]
) -> None:
    write(project.root, {"train/linear.yaml": GROUP, "train/other.yaml": GROUP.replace("my_", "your_")})
    values = yaml.safe_load(project.spec.read_text())
    del values["train"]
    typed(yaml.safe_dump({"defaults": [{"train": "linear"}, "_self_"], **values}, sort_keys=False).encode())
    assert answer(project.root, "validate", "-").out == "-: valid\n"
    typed(yaml.safe_dump({"defaults": [{"train": "other"}, "_self_"], **values}, sort_keys=False).encode())
    said = answer(project.root, "validate", "-").out
    assert said.startswith("train/other.yaml:1:7 train.uses: no module 'your_trainer'")
    assert sorted(path.name for path in project.root.glob("*.yaml")) == ["schema.yaml", "spec.yaml"]


@pytest.mark.parametrize("data", [b"\xff\xfe", b"name: \xff\n", b"", b"- a\n", b"a: [\n", b"\x00"])
def test_whatever_comes_on_standard_input_is_a_problem_with_a_place(
    project: Project, answer: Answer, typed: Callable[[bytes], None], data: bytes
) -> None:
    typed(data)
    found = answer(project.root, "validate", "-")
    assert found.code == 1
    assert found.out.startswith("-:1:") or found.out.startswith("-:2:")
    assert found.out.endswith("-: 1 problem\n")


def test_what_stands_behind_two_dashes_are_overrides_of_every_spec(project: Project, answer: Answer) -> None:
    shutil.copy(project.spec, project.root / "second.yaml")
    found = answer(project.root, "validate", "spec.yaml", "second.yaml", "--", "train.uses=sklern", "seed=8")
    said = "override train.uses=sklern: no trainer plugin 'sklern'; did you mean \"sklearn\"?  [plugin-unknown]"
    assert found.out.splitlines() == [said, "spec.yaml: 1 problem", said, "second.yaml: 1 problem"]
    assert found.code == 1


def test_overrides_may_begin_with_signs(project: Project, answer: Answer) -> None:
    done = answer(project.root, "validate", "spec.yaml", "--", "~seed", "+train.resources.cpus=2", "++seed=1")
    assert done == Done(0, "spec.yaml: valid\n", "")


# -- how it is told --------------------------------------------------------------------------------------------


def test_in_a_pipe_a_problem_is_one_line(project: Project, answer: Answer) -> None:
    project.write(TYPO)
    assert answer(project.root, "validate", "spec.yaml") == Done(1, f"{SAID}\nspec.yaml: 1 problem\n", "")


def test_a_rule_is_explained_where_it_is_asked_for(project: Project, answer: Answer) -> None:
    shown = answer(project.root, "validate", "--explain", "key-unknown")
    assert (shown.code, shown.out.splitlines()[0]) == (0, "## key-unknown")
    assert "resource: {cpus: 2}" in shown.out
    assert answer(project.root, "validate", "--explain", "key-unknown", "--json").json["help"].endswith("#key-unknown")
    missing = answer(project.root, "validate", "--explain", "key-unknow")
    assert (missing.code, 'did you mean "key-unknown"?' in missing.err) == (2, True)


def test_without_a_spec_nothing_is_valid(project: Project, answer: Answer) -> None:
    found = answer(project.root, "validate")
    assert (found.code, found.out) == (2, "")


def test_on_a_terminal_a_problem_has_the_line_that_it_is_about(project: Project) -> None:
    project.write(TYPO)
    command = [sys.executable, "-m", "engine.cli.main", "validate", "spec.yaml"]
    code, out, _ = shown(command, project.root, {})
    assert code == 1
    assert out.splitlines() == [SAID, "  16 |   uses: sklern", "     |         ^^^^^^", "spec.yaml: 1 problem"]


def test_json_is_a_format_and_a_flag(project: Project, answer: Answer) -> None:
    project.write(TYPO)
    found = answer(project.root, "validate", "spec.yaml", "--format", "json")
    assert found == answer(project.root, "validate", "spec.yaml", "--json")
    problem = found.json["problems"][0]
    assert (problem["nearest"], problem["help"]) == ("sklearn", "docs/rules.md#plugin-unknown")


def test_github_gets_its_annotation_on_standard_output(project: Project, answer: Answer) -> None:
    project.write(TYPO)
    found = answer(project.root, "validate", ".", "--format", "github")
    assert found.out.startswith("::error file=spec.yaml,line=16,col=9,title=plugin-unknown::train.uses: no trainer")
    assert found.code == 1


def test_services_are_told_files_from_the_top_of_the_repository(
    project: Project, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(TYPO)
    top = project.root.parent
    (top / ".git").mkdir()
    below = f"{project.root.name}/spec.yaml"
    github = answer(project.root, "validate", "spec.yaml", "--format", "github")
    assert f"file={below}," in github.out
    gitlab = answer(project.root, "validate", str(project.root / "spec.yaml"), "--format", "gitlab")
    assert [issue["location"]["path"] for issue in json.loads(gitlab.out)] == [below]


def test_several_files_are_written_at_once(project: Project, answer: Answer) -> None:
    project.write(TYPO)
    names = ("sarif", "gitlab", "junit", "json", "github", "text")
    asked = [part for name in names for part in ("--output", f"{name}=out/problems.{name}")]
    found = answer(project.root, "validate", "spec.yaml", *asked)
    assert found.out == f"{SAID}\nspec.yaml: 1 problem\n"
    assert (project.root / "out/problems.text").read_text() == found.out
    assert json.loads((project.root / "out/problems.sarif").read_text())["version"] == "2.1.0"
    assert {path.name for path in (project.root / "out").iterdir()} == {f"problems.{name}" for name in names}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "jsn"], "--format: no format 'jsn'\n  did you mean \"json\"? known formats: text, json, github"),
        (["--output", "sarif"], "--output: 'sarif' is not FORMAT=PATH"),
        (["--output", "xml=x"], "--output: no format 'xml'"),
        (["--output", "json=."], "is a folder"),
        (["--output", "json=a", "--output", "sarif=a"], "json and sarif are to be written to one file"),
    ],
)
def test_a_wrong_format_or_target_is_refused_before_anything_is_checked(
    project: Project, answer: Answer, arguments: list[str], says: str
) -> None:
    found = answer(project.root, "validate", "spec.yaml", *arguments)
    assert (found.code, found.out) == (2, "")
    assert says in found.err


@pytest.mark.parametrize(
    ("specs", "code"),
    [(["spec.yaml"], 0), (["nope.yaml"], 2), (["spec.yaml", "nope.yaml"], 2), (["wrong.yaml", "spec.yaml"], 1)],
)
def test_the_exit_code_says_what_was_found(project: Project, answer: Answer, specs: list[str], code: int) -> None:
    project.write(TYPO, name="wrong.yaml")
    assert answer(project.root, "validate", *specs).code == code
    assert answer(project.root, "validate", *specs, "--json").json["valid"] is (code == 0)


def test_the_specs_of_this_repository_are_all_that_is_found_in_its_folder() -> None:
    root = Path(__file__).resolve().parents[2]
    assert specs_at("specs", root) == ["specs/model.yaml"]

"""``engine init``: a project that works, and nothing of anybody's overwritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from engine.starter import FILES, TEMPLATES, is_taken, name_of
from projects import Done, engine

Answer = Callable[..., Done]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project called demo, as init writes it."""
    folder = tmp_path_factory.mktemp("init")
    assert engine(folder, "init", "demo").code == 0
    return folder / "demo"


def tool(folder: Path, *command: str) -> str:
    """What a tool of the environment says; it must succeed."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_project_is_valid(demo: Path) -> None:
    found = engine(demo, "validate", "specs/model.yaml")
    assert (found.code, found.out) == (0, "specs/model.yaml: valid\n")


def test_nothing_is_left_to_fill_in(demo: Path) -> None:
    texts = {path: path.read_text() for path in demo.rglob("*") if path.is_file()}
    assert len(texts) == len(FILES) + 1
    assert [
        path for path, text in texts.items() if "@NAME@" in text or "@PACKAGE@" in text or "@VERSION@" in text
    ] == []


def test_its_tests_pass(demo: Path) -> None:
    assert "2 passed" in tool(demo, "pytest", "-q", "-p", "no:cacheprovider")


def test_its_python_is_in_order(demo: Path) -> None:
    tool(demo, "ruff", "check", "--isolated", "--no-cache", "--select", "E,F,I,UP,B,RUF", "--line-length", "120", ".")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--builtin-schema", "vendor.github-workflows", ".github/workflows/engine.yml"),
        ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", ".gitlab-ci.yml"),
        ("--schemafile", "specs/engine.schema.json", "specs/model.yaml"),
    ],
    ids=["github", "gitlab", "spec"],
)
def test_its_yaml_is_valid_by_the_published_schemas(demo: Path, arguments: tuple[str, ...]) -> None:
    tool(demo, "check_jsonschema", *arguments)


def test_its_pre_commit_hook_and_that_of_the_repository_are_valid(demo: Path) -> None:
    tool(demo, "pre_commit", "validate-config", ".pre-commit-config.yaml")
    tool(ROOT, "pre_commit", "validate-manifest", ".pre-commit-hooks.yaml")


def test_a_second_init_writes_nothing(demo: Path, answer: Answer) -> None:
    before = {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()}
    found = answer(demo, "init")
    assert found.out == f"demo: all {len(FILES) + 1} files are there already; nothing is written\n"
    assert {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()} == before


def test_what_is_there_is_kept_and_named(tmp_path: Path, answer: Answer) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / ".gitignore").symlink_to("nowhere")
    found = answer(tmp_path, "init", ".", "--name", "demo", "--json").json
    assert found["kept"] == [{"path": "README.md", "same": False}, {"path": ".gitignore", "same": False}]
    assert (tmp_path / "README.md").read_text() == "mine"
    assert (tmp_path / ".gitignore").is_symlink()
    assert len(found["written"]) == len(FILES) - 1
    assert "kept   README.md, which is not what init writes" in answer(tmp_path, "init", "--name", "demo").out


REFUSED = {
    "a name with capitals": (["init", "new", "--name", "Demo"], '"Demo" is not the name of a project'),
    "a name with a path": (["init", "new", "--name", "../up"], '"../up" is not the name of a project'),
    "a folder whose name is too short": (["init", "a"], "the folder gives the name"),
    "a file in place of the folder": (["init", "file", "--name", "demo"], "is not a folder"),
    "a file above the folder": (["init", "file/demo"], "file"),
    "a folder in place of a file": (["init", "blocked"], "is a folder"),
    "a file in place of a folder inside": (["init", "full"], "is not a folder"),
}


@pytest.mark.parametrize(("command", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_project_is_refused_before_anything_is_written(
    tmp_path: Path, command: list[str], said: str, answer: Answer
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "blocked" / "README.md").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "specs").touch()
    before = set(tmp_path.rglob("*"))
    found = answer(tmp_path, *command)
    assert found.code in (2, 3)
    assert said in found.err
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("folder", "name"), [("My Model_2", "my-model-2"), ("demo", "demo"), ("-x-", "x"), ("Fahrräder", "fahrr-der")]
)
def test_a_folder_gives_a_name(folder: str, name: str) -> None:
    assert name_of(Path("/somewhere") / folder) == name


@pytest.mark.parametrize("name", ["numpy", "json", "class", "2fast", "engine"])
def test_a_package_never_hides_another_module(tmp_path: Path, name: str, answer: Answer) -> None:
    written = answer(tmp_path, "init", "new", "--name", name, "--json").json["written"]
    assert f"src/project_{name}/trainer.py" in written
    assert answer(tmp_path / "new", "validate", "specs/model.yaml").code == 0


def test_a_free_name_is_free() -> None:
    assert not is_taken("nobody_has_this")


def test_the_wheel_has_the_templates(tmp_path: Path) -> None:
    tool(ROOT, "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    inside = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("engine/templates/")}
    assert inside == {path.name for path in TEMPLATES.iterdir()} == set(FILES.values())


# -- what CI does ------------------------------------------------------------------------------------------------


def loaded(path: Path) -> dict[str, object]:
    """A CI file. (``on`` is true in YAML 1.1.)"""
    found = yaml.safe_load(path.read_text())
    return {("on" if key is True else key): value for key, value in found.items()}


def test_github_gives_a_pull_request_nothing(demo: Path) -> None:
    text = (demo / ".github/workflows/engine.yml").read_text()
    found = json.loads(json.dumps(loaded(demo / ".github/workflows/engine.yml")))
    assert found["on"] == {"push": None, "pull_request": None}
    assert found["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    assert "self-hosted" not in json.dumps(found["jobs"]["validate"])
    assert found["jobs"]["run"]["if"].startswith("github.event_name == 'push' && github.ref == format('refs/heads/{0}'")
    assert all(step["with"] == {"persist-credentials": False} for step in steps(found) if "checkout" in step["uses"])


def steps(found: dict[str, dict[str, dict[str, list[dict[str, str]]]]]) -> list[dict[str, str]]:
    """The steps of a workflow that use an action."""
    return [step for job in found["jobs"].values() for step in job["steps"] if "uses" in step]


def test_neither_file_installs_what_a_pull_request_can_change(demo: Path) -> None:
    github, gitlab = loaded(demo / ".github/workflows/engine.yml"), loaded(demo / ".gitlab-ci.yml")
    for checked in (lines_of_github(github, "validate"), lines_of_gitlab(gitlab, "validate")):
        assert [line.split()[:2] for line in checked] == [["python", "-I"], ["engine", "validate"]]
        assert "requirements" not in " ".join(checked)


def lines_of_github(workflow: dict[str, object], job: str) -> list[str]:
    """The script lines of a job."""
    return [step["run"] for step in workflow["jobs"][job]["steps"] if "run" in step]  # type: ignore[index]


def lines_of_gitlab(pipeline: dict[str, object], job: str) -> list[str]:
    """The script lines of a job."""
    return list(pipeline[job]["script"])  # type: ignore[index]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with a project in it, and a folder beside it that a runner keeps."""
    folder = tmp_path_factory.mktemp("ci")
    assert engine(folder, "init", "demo").code == 0
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], [*WHO, "commit", "-qm", "Start"]):
        subprocess.run(["git", *arguments], cwd=folder / "demo", check=True)
    return folder / "demo"


WHO = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]


def carried_out(folder: Path, lines: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Script lines as a runner's shell carries them out: one after the other, until one fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", "\n".join(lines)],
        cwd=folder,
        env={**os.environ, "PATH": path, "CI": "true", "PIP_NO_INDEX": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_lines_of_github_check_specs(checkout: Path) -> None:
    lines = lines_of_github(loaded(checkout / ".github/workflows/engine.yml"), "validate")
    assert carried_out(checkout, lines, GITHUB_ACTIONS="true").returncode == 0
    with broken(checkout):
        found = carried_out(checkout, lines, GITHUB_ACTIONS="true")
    assert found.returncode == 1
    assert "::error file=specs/model.yaml,line=3," in found.stdout


def test_the_lines_of_gitlab_check_specs(checkout: Path) -> None:
    lines = lines_of_gitlab(loaded(checkout / ".gitlab-ci.yml"), "validate")
    assert carried_out(checkout, lines, GITLAB_CI="true").returncode == 0
    assert json.loads((checkout / "gl-code-quality.json").read_text()) == []
    with broken(checkout):
        found = carried_out(checkout, lines, GITLAB_CI="true")
    assert found.returncode == 1
    assert len(json.loads((checkout / "gl-code-quality.json").read_text())) == 1


def test_the_lines_that_check_a_fork_import_nothing_that_it_brings(checkout: Path) -> None:
    code = "import pathlib; pathlib.Path('ran').touch()\n"
    brought = [checkout / name for name in ("pip.py", "json.py", "sitecustomize.py", "engine.py", "conftest.py")]
    for file in brought:
        file.write_text(code)
    workflow, pipeline = loaded(checkout / ".github/workflows/engine.yml"), loaded(checkout / ".gitlab-ci.yml")
    for lines in (lines_of_github(workflow, "validate"), lines_of_gitlab(pipeline, "validate")):
        assert carried_out(checkout, lines).returncode == 0
    assert not (checkout / "ran").exists()
    carried_out(checkout, ["python -m pip --version"])
    assert (checkout / "ran").exists(), "without -I it would"
    for file in (*brought, checkout / "ran"):
        file.unlink()


@contextmanager
def broken(checkout: Path) -> Iterator[None]:
    """The project with a typo in its spec."""
    spec = checkout / "specs/model.yaml"
    good = spec.read_text()
    spec.write_text(good.replace("name: demo", "nam: demo\nname: demo", 1))
    yield
    spec.write_text(good)


def test_the_hook_refuses_the_commit_of_a_broken_spec(checkout: Path) -> None:
    hook = ["python -m pre_commit run --all-files"]
    assert carried_out(checkout, hook).returncode == 0
    with broken(checkout):
        found = carried_out(checkout, hook)
    assert found.returncode == 1
    assert 'unknown key "nam"' in found.stdout


@pytest.mark.slow
def test_the_lines_of_both_run_specs_and_leave_their_reports(checkout: Path) -> None:
    """The second finds in the kept ENGINE_HOME what the first has done, and promoted."""
    workflow, pipeline = loaded(checkout / ".github/workflows/engine.yml"), loaded(checkout / ".gitlab-ci.yml")
    for lines, host in (
        (lines_of_github(workflow, "run"), {"GITHUB_ACTIONS": "true"}),
        (lines_of_gitlab(pipeline, "run"), {"GITLAB_CI": "true"}),
    ):
        found = carried_out(checkout, lines, ENGINE_HOME=str(checkout.parent / "kept"), **host)
        assert found.returncode == 0, found.stdout + found.stderr
        assert {path.name for path in (checkout / "reports").iterdir()} == {
            "junit.xml",
            "run.md",
            "run.html",
            "run.env",
        }
        shutil.rmtree(checkout / "reports")
    assert "0 changes" in found.stdout
    listed = engine(checkout, "runs", "list", "--json", ENGINE_HOME=str(checkout.parent / "kept")).json["runs"]
    assert len(listed) == 2, "with a model in production the same spec is another run"
    assert "demo@production is version 1 already" in found.stdout
    assert not (checkout / ".engine").exists()

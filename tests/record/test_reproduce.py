"""A run is made again from what was recorded of it, and from nothing else."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.api import prepare_spec, run
from engine.pipeline import execute, prepare_parts
from engine.record.parts import PARTS, Parts, differing, mixed, parts_of
from engine.store.objects import ObjectStore
from engine.store.sqlite import close_kept
from engine.wiring import bench, open_home
from projects import HELPER, TRAINER, Done, Project, engine, make_project, numbers

FIT = "        x = columns(table, task.names)\n"


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a run that passed. Nobody changes it."""
    project = make_project(tmp_path_factory.mktemp("reproduced") / "project")
    assert engine(project.root, "run", "spec.yaml", "--inline").code == 0
    return project


@pytest.fixture
def copied(passed: Project, tmp_path: Path) -> Project:
    """The same, to be changed."""
    return Project(shutil.copytree(passed.root, tmp_path / "project"))


def only_run(project: Project) -> str:
    (run_id,) = open_home(project.root).records.run_ids()
    return run_id


def reproduce(project: Project, *options: str) -> Done:
    return engine(project.root, "reproduce", only_run(project), "--inline", "--json", *options)


def parts(project: Project, run_id: str) -> Parts:
    home = open_home(project.root)
    record = home.records.latest(run_id)
    assert record is not None
    return parts_of(record, home.store)


def test_every_artifact_is_the_same_although_sources_spec_and_branches_are_gone_or_others(copied: Project) -> None:
    for name in ("spec.yaml", "schema.yaml", "my_trainer.py"):
        (copied.root / name).unlink()
    (copied.root / "helper.py").write_text("raise SystemExit('not this one')")
    copied.put("train.parquet", numbers(50, seed=9))
    done = reproduce(copied)
    assert (done.code, done.json["reproduced"], done.json["environment"]) == (0, True, [])
    names = {item["name"] for item in done.json["artifacts"]}
    assert {"ingest.train/table", "export/model", "evaluate/evaluation", "register/package"} <= names


def test_nothing_of_it_stays_and_nothing_is_recorded(copied: Project) -> None:
    before = {path: path.stat().st_size for path in copied.home.rglob("*") if path.is_file()}
    assert reproduce(copied).code == 0
    close_kept()
    after = {path: path.stat().st_size for path in copied.home.rglob("*") if path.is_file()}
    assert {path.name for path in after.keys() - before.keys()} == set()


def test_it_is_computed_and_not_read_from_the_cache(copied: Project) -> None:
    shutil.rmtree(copied.home / "cache")
    home = open_home(copied.root)
    record = home.records.latest(only_run(copied))
    assert record is not None
    for digest in set(record.subjects.values()):
        home.store.path(digest).unlink()
    done = reproduce(copied)
    assert (done.code, done.json["reproduced"]) == (0, True)


def test_a_trainer_that_draws_without_the_seed_is_found_and_what_follows_from_it_is_told(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    drawing = TRAINER.replace(FIT, FIT + "        x = x + np.random.default_rng().normal(size=x.shape) * 1e-3\n")
    (project.root / "my_trainer.py").write_text(drawing)
    assert run(project.spec, inline=True).status == "passed"
    done = reproduce(project)
    found = {item["name"]: item for item in done.json["artifacts"]}
    assert (done.code, done.json["reproduced"]) == (1, False)
    assert found["ingest.train/table"]["same"]
    assert not found["export/model"]["same"]
    assert any("my_trainer" in reason for reason in found["export/model"]["reasons"])
    assert found["evaluate/predictions"]["reasons"] == ["it was made from export"]


def distribution(folder: Path, version: str) -> None:
    """Install a library in ``folder``, as pip would."""
    shutil.rmtree(folder, ignore_errors=True)
    info = folder / f"weather-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / "weather.py").write_text(f"RAIN = {version}\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: weather\nVersion: {version}\n")
    (info / "RECORD").write_text(f"weather.py,,\nweather-{version}.dist-info/METADATA,,\n")
    (info / "top_level.txt").write_text("weather\n")


def test_another_environment_is_refused_with_what_differs_unless_here_is_asked_for(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    text = TRAINER.replace("import helper\n", "import helper\nimport weather\n")
    (project.root / "my_trainer.py").write_text(text.replace(FIT, FIT + "        x = x * weather.RAIN\n"))
    site = tmp_path / "lib" / "site-packages"
    path = ":".join([str(site), *filter(None, [*sys.path[1:]])])
    distribution(site, "1.0")
    assert engine(project.root, "run", "spec.yaml", "--inline", PYTHONPATH=path).code == 0
    distribution(site, "2.0")
    run_id = only_run(project)
    refused = engine(project.root, "reproduce", run_id, "--inline", PYTHONPATH=path)
    assert refused.code == 1
    assert "weather: 1.0 -> 2.0" in refused.err
    assert "--here" in refused.err
    here = engine(project.root, "reproduce", run_id, "--inline", "--here", "--json", PYTHONPATH=path)
    assert here.code == 1
    assert here.json["environment"] == [{"name": "weather", "recorded": "1.0", "here": "2.0"}]
    reasons = [reason for item in here.json["artifacts"] for reason in item["reasons"]]
    assert any("weather: 1.0 -> 2.0" in reason for reason in reasons)


def test_data_that_was_altered_is_not_used(copied: Project) -> None:
    (pack,) = copied.home.glob("objects/packs/*.pack")
    data = bytearray(pack.read_bytes())
    data[100] ^= 1
    pack.write_bytes(bytes(data))
    done = reproduce(copied)
    assert (done.code, done.json["error"]["code"]) == (1, "digest-mismatch")


def test_a_failed_reproduction_says_which_step_failed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    flag = tmp_path / "flag"
    flag.touch()
    text = TRAINER.replace(FIT, f'{FIT}        open("{flag}")\n')
    (project.root / "my_trainer.py").write_text(text)
    assert run(project.spec, inline=True).status == "passed"
    flag.unlink()
    done = reproduce(project)
    found = {item["name"]: item for item in done.json["artifacts"]}
    assert done.code == 1
    assert found["ingest.train/table"]["same"]
    assert found["export/model"]["here"] is None
    assert "skipped" in found["export/model"]["reasons"][0]


@pytest.mark.parametrize(
    "spec", [{}, {"serve": {"canary": {"traffic": 0.5}, "log": {"sample": 0.5}}, "sweep": {"direction": "minimize"}}]
)
def test_a_spec_read_back_from_a_record_is_the_same_run_with_the_same_operation(
    tmp_path: Path, spec: dict[str, object]
) -> None:
    project = make_project(tmp_path / "project")
    monitor = {
        "reference": "train",
        "detectors": [{"name": "inputs", "uses": "ks", "window": "1h"}],
        "on_alert": {"webhook": "${oc.env:NOWHERE,null}"},
    }
    project.write({"train.resources.memory": "2GiB", "train.resources.timeout": "9m"}, **{"monitor": monitor, **spec})
    made = run(project.spec, inline=True)
    assert made.status == "passed"
    recorded = parts(project, made.id)
    with bench(open_home(project.root), recorded) as (desk, root):
        again = prepare_parts(recorded, desk, root)
    written = prepare_spec(project.spec)
    assert again.resolved.identity == written.resolved.identity
    assert again.resolved.operation == written.resolved.operation
    assert again.plan.document() == written.plan.document()


def two_runs(project: Project) -> tuple[str, str]:
    """Runs that differ in spec, data and code."""
    first = run(project.spec, inline=True).id
    project.put("train.parquet", numbers(300, seed=5))
    helper = project.root / "helper.py"
    helper.write_text(helper.read_text() + "\nNEW = 1\n")
    project.write({"train.with": {"ridge": 0.5}})
    return first, run(project.spec, inline=True).id


def test_any_mixture_of_two_runs_is_the_run_that_somebody_would_have_made_of_them(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    first, second = two_runs(project)
    left, right = parts(project, first), parts(project, second)
    assert differing(left, left) == ()
    assert differing(left, right) == ("spec", "data", "code")
    project.write()
    (project.root / "helper.py").write_text(HELPER)
    expected = prepare_spec(project.spec).resolved.run_id  # the first spec and code, the second data
    mixture = mixed(left, right, ["data"])
    assert differing(left, mixture) == ("data",)
    home = open_home(project.root)
    with bench(home, mixture) as (desk, root):
        prepared = prepare_parts(mixture, desk, root)
        result = execute(prepared, lambda _: None, inline=True, fresh=True)
        assert ObjectStore(root.parent / "objects").has(result.outcomes["export"].outputs["model"].digest)
    assert prepared.resolved.run_id == expected
    assert result.outcomes["export"].outputs["model"].digest == run(project.spec, inline=True).model[
        "digest"
    ].removeprefix("sha256:")


def test_all_four_taken_from_the_other_run_are_the_other_run(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    first, second = two_runs(project)
    mixture = mixed(parts(project, first), parts(project, second), PARTS)
    with bench(open_home(project.root), mixture) as (desk, root):
        assert prepare_parts(mixture, desk, root).resolved.run_id == second


def test_what_a_killed_reproduction_left_goes_with_the_next_but_not_what_a_living_one_uses(copied: Project) -> None:
    left = copied.home / "tmp" / "reproduce-left"
    (left / "sources").mkdir(parents=True)
    subprocess.run(["touch", "-d", "1 hour ago", str(left)], check=True)
    with bench(open_home(copied.root), parts(copied, only_run(copied))) as (_, root):
        assert not left.exists()
        subprocess.run(["touch", "-d", "1 hour ago", str(root.parent)], check=True)
        assert reproduce(copied).code == 0
        assert root.is_dir()
    assert not root.exists()


def test_ctrl_c_leaves_nothing_of_a_reproduction(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    flag = tmp_path / "flag"
    slow = f'{FIT}        import pathlib\n        if pathlib.Path("{flag}").exists():\n            pathlib.Path("{flag}").unlink()\n            time.sleep(60)\n'
    (project.root / "my_trainer.py").write_text(TRAINER.replace(FIT, slow))
    assert run(project.spec, inline=True).status == "passed"
    flag.touch()
    command = [sys.executable, "-m", "engine.cli.main", "reproduce", only_run(project), "--inline"]
    with subprocess.Popen(command, cwd=project.root, stderr=subprocess.PIPE, text=True) as process:
        while flag.exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert list((project.home / "tmp").iterdir()) == []

"""What the lake says of a spec's data before anything runs."""

from __future__ import annotations

import gzip
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
import yaml

from projects import SCHEMA, Done, Project, make_project, numbers

Answer = Callable[..., Done]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("online") / "project")


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(made.root, tmp_path / "project"))


def said(project: Project, answer: Answer, *arguments: str) -> list[str]:
    """Every problem with its rule."""
    document = answer(project.root, "validate", "spec.yaml", "--online", "--json", *arguments).json
    return [
        f"{item['rule']} {item['file']}:{item['line']}:{item['column']} {item['key']}: {item['message']}; {item['hint']}"
        for item in document["problems"]
    ]


def test_data_that_is_there_as_the_spec_says_is_valid(project: Project, answer: Answer) -> None:
    assert answer(project.root, "validate", "spec.yaml", "--online") == Done(0, "spec.yaml: valid\n", "")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("lakefs://nombers/main/train.parquet", "no repository 'nombers'; did you mean \"numbers\"?"),
        ("lakefs://numbers/mian/train.parquet", 'did you mean "main"?'),
        ("lakefs://numbers/main/trian.parquet", 'did you mean "train.parquet"?'),
        ("lakefs://numbers/main/nothing/", "no folder in lakefs://numbers/main/: 'nothing/'"),
    ],
)
def test_data_that_is_not_there_is_named_at_its_uri(project: Project, answer: Answer, uri: str, says: str) -> None:
    project.write({"data.train.uri": uri})
    found = said(project, answer)
    assert len(found) == 1
    assert found[0].startswith("data-missing spec.yaml:5:10 data.train.uri: ")
    assert says in found[0]


def test_without_online_the_lake_is_not_asked(project: Project, answer: Answer) -> None:
    project.write({"data.train.uri": "lakefs://nombers/main/train.parquet"})
    shutil.rmtree(project.home)
    assert answer(project.root, "validate", "spec.yaml").code == 0
    assert not project.home.exists()


def encoded(table: pa.Table, form: str) -> bytes:
    """A table as a file."""
    buffer = io.BytesIO()
    if form == "arrow":
        with pa.ipc.new_file(buffer, table.schema) as writer:
            writer.write_table(table)
    elif form == "stream":
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
    else:
        pyarrow.csv.write_csv(table, buffer)
    data = buffer.getvalue()
    return gzip.compress(data) if form == "csv.gz" else data


@pytest.mark.parametrize(
    ("form", "ending"), [("arrow", "arrow"), ("stream", "arrow"), ("csv", "csv"), ("csv.gz", "csv.gz")]
)
def test_a_column_that_no_file_has_is_named_whatever_the_format(
    project: Project, answer: Answer, form: str, ending: str
) -> None:
    project.put_bytes(f"more/a.{ending}", encoded(numbers(20_000), form))
    project.write({
        "data.train": {"uri": f"lakefs://numbers/main/more/a.{ending}"}, "data.test.schema": None, "features.numeric": ["x", "qq"],
    })  # fmt: skip
    assert said(project, answer) == [
        'column-missing spec.yaml:11:5 features.numeric.1: no column "qq" in the files of train or in its transforms; '
        "known: group, x, y, z"
    ]


def test_a_folder_has_the_columns_of_all_its_files(project: Project, answer: Answer) -> None:
    project.put("parts/1.parquet", numbers(10).drop_columns(["z"]))
    project.write({"data.train": {"uri": "lakefs://numbers/main/parts/"}})
    assert 'no column "z" in the files of train' in said(project, answer)[0]
    project.put("parts/2.parquet", numbers(10))
    assert said(project, answer) == []


def test_a_column_that_a_schema_requires_is_named_in_the_schema(project: Project, answer: Answer) -> None:
    columns = {**SCHEMA["columns"], "gruop": {"dtype": "str"}, "rare": {"required": False}}
    (project.root / "schema.yaml").write_text(yaml.safe_dump({"columns": columns}, sort_keys=False))
    assert said(project, answer) == [
        'column-missing schema.yaml:16:3 columns.gruop: no column "gruop" in the files of train; did you mean "group"?'
    ]


def test_a_file_that_is_not_of_its_format_is_named(project: Project, answer: Answer) -> None:
    project.put_bytes("bad.parquet", b"these are no columns")
    project.write({"data.train.uri": "lakefs://numbers/main/bad.parquet"})
    assert [line.split(":")[0] for line in said(project, answer)] == ["data-unreadable spec.yaml"]


def test_lines_of_json_have_no_columns_to_be_told_beforehand(project: Project, answer: Answer) -> None:
    project.put_bytes("a.jsonl", b'{"x": 1}\n')
    project.write({"data.train": {"uri": "lakefs://numbers/main/a.jsonl"}})
    assert said(project, answer) == []


def test_the_lake_is_only_asked_about_specs_that_are_right(project: Project, answer: Answer) -> None:
    project.write({"data.train.uri": "lakefs://nombers/main/train.parquet"})
    assert [line.split()[0] for line in said(project, answer, "--", "seed=x")] == ["value"]

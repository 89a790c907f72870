"""The door for other systems: a publisher of one's own gets everything of a version, and nothing that was altered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.digest import sha256
from engine.errors import DigestMismatch
from engine.plugins import PluginFailed, Publication, Publisher, find, load
from engine.registry.model import ModelRef
from engine.report.publication import publication
from engine.wiring import open_home
from projects import Project

FOLDER = '''
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A folder as an inference server with a model repository reads it."""

    root: str

    def publish(self, publication):
        folder = Path(self.root) / publication.name / str(publication.version)
        folder.mkdir(parents=True, exist_ok=True)
        inputs = [
            {"name": item["name"], "datatype": item["datatype"], "shape": item["shape"]}
            for item in publication.signature["inputs"]
        ]
        settings = {"name": publication.name, "parameters": {"uri": "model.onnx"}, "inputs": inputs}
        (folder / "model.onnx").write_bytes(publication.onnx)
        (folder / "model-settings.json").write_text(json.dumps(settings))
        (folder / "README.md").write_text(publication.card)
        return {"uri": folder.as_uri()}


class NotOne:
    pass
'''


@pytest.fixture
def published(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publication:
    (tmp_path / "my_publisher.py").write_text(FOLDER)
    monkeypatch.syspath_prepend(tmp_path)
    home = open_home(project.root)
    version = home.registry.get(ModelRef.parse("numbers:1"))
    return publication(version, home.registry, home.records, home.store)


def test_a_publisher_of_ones_own_gets_the_model_with_its_signature_and_card(
    published: Publication, tmp_path: Path
) -> None:
    publisher = load(find("publisher", "my_publisher:ModelFolder"))(root=str(tmp_path / "models"))
    assert isinstance(publisher, Publisher)
    told = publisher.publish(published)
    folder = tmp_path / "models" / "numbers" / "1"
    assert told["uri"] == folder.as_uri()
    assert sha256((folder / "model.onnx").read_bytes()) == published.digest
    assert [item["name"] for item in json.loads((folder / "model-settings.json").read_text())["inputs"]] == ["x", "z"]
    assert (folder / "README.md").read_text().startswith("# numbers:1\n")
    assert published.provenance["predicateType"] == "https://slsa.dev/provenance/v1"


@pytest.mark.usefixtures("published")
def test_what_cannot_publish_is_no_publisher() -> None:
    with pytest.raises(PluginFailed, match=r"has no method publish\(\)"):
        load(find("publisher", "my_publisher:NotOne"))


def test_altered_bytes_are_not_published(project: Project) -> None:
    home = open_home(project.root)
    version = home.registry.get(ModelRef.parse("numbers:1"))
    path = home.store.path(version.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        publication(version, home.registry, home.records, home.store)

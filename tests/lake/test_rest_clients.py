"""The official Python clients of lakeFS, and lakefs-spec, at work on the served embedded lake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lakefs
import lakefs_client
import lakefs_sdk
import pytest
from lakefs.client import Client
from lakefs.exceptions import ConflictException, NotFoundException
from lakefs_client.client import LakeFSClient
from lakefs_spec import LakeFSFileSystem

from engine.lake.credentials import Credentials
from lakes import served_address

COUNT = iter(range(1000))


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Credentials]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "data").mkdir()
    for number in range(3):
        (folder / "data" / f"{number}.csv").write_text("a\n1\n")
    with served_address(folder, "--import-root", str(folder / "data")) as found:
        yield found


@pytest.fixture(scope="module")
def client(credentials: Credentials) -> Client:
    return Client(host=credentials.endpoint, username=credentials.access_key_id, password=credentials.secret_access_key)


@pytest.fixture
def repo(client: Client) -> lakefs.Repository:
    return lakefs.Repository(f"repo-{next(COUNT)}", client=client).create(storage_namespace="local://somewhere")


def put(branch: lakefs.Branch, **texts: str) -> None:
    for path, text in texts.items():
        branch.object(path).upload(data=text.encode())


@pytest.mark.parametrize("pre_sign", [True, False])
def test_an_object_is_written_and_read_in_every_mode(repo: lakefs.Repository, pre_sign: bool) -> None:
    item = repo.branch("main").object("folder/a b.txt")
    item.upload(data=b"one\ntwo\n", content_type="text/plain", metadata={"k": "v"}, pre_sign=pre_sign)
    found = item.stat()
    assert (found.size_bytes, found.content_type, found.metadata) == (8, "text/plain", {"k": "v"})
    with item.reader(mode="r", pre_sign=pre_sign) as stream:
        assert stream.read() == "one\ntwo\n"
    with item.reader(mode="rb", pre_sign=pre_sign) as stream:
        stream.seek(4)
        assert stream.read(3) == b"two"
    with item.writer(mode="wb", pre_sign=pre_sign) as writer:
        writer.write(b"x" * 200_000)
    with item.reader(mode="rb", pre_sign=pre_sign) as stream:
        assert stream.read() == b"x" * 200_000


def test_history_is_made_and_read(repo: lakefs.Repository) -> None:
    main = repo.branch("main")
    put(main, a="1")
    first = main.commit("first", metadata={"x": "y"})
    assert (first.get_commit().message, first.get_commit().metadata) == ("first", {"x": "y"})
    dev = repo.branch("dev").create("main")
    put(dev, b="2")
    dev.commit("second")
    assert [(change.type, change.path) for change in main.diff(dev)] == [("added", "b")]
    dev.merge_into(main)
    assert [item.path for item in main.objects()] == ["a", "b"]
    assert [commit.message for commit in main.log()] == [
        "Merge 'dev' into 'main'", "second", "first", "Repository created",
    ]  # fmt: skip
    main.revert("main", parent_number=1)
    assert [item.path for item in main.objects()] == ["a"]
    picked = repo.branch("other").create(first.id).cherry_pick("dev")
    assert picked.message == "second"
    tag = repo.tag("v1").create("main~1")
    assert [item.id for item in repo.tags()] == ["v1"]
    assert tag.get_commit().id == next(iter(main.log(amount=2))).parents[0]


def test_a_transaction_is_one_merge_or_nothing(repo: lakefs.Repository) -> None:
    main = repo.branch("main")
    with main.transact(commit_message="together") as branch:
        put(branch, a="1", b="2")
    assert [item.path for item in main.objects()] == ["a", "b"]
    with pytest.raises(ZeroDivisionError), main.transact(commit_message="never") as branch:
        put(branch, c="3")
        raise ZeroDivisionError
    assert [item.path for item in main.objects()] == ["a", "b"]
    assert [branch.id for branch in repo.branches()] == ["main"]


def test_a_conflict_is_the_clients_conflict_and_a_strategy_solves_it(repo: lakefs.Repository) -> None:
    main = repo.branch("main")
    put(main, a="0")
    main.commit("m")
    dev = repo.branch("dev").create("main")
    for branch in (main, dev):
        put(branch, a=branch.id)
        branch.commit("m")
    with pytest.raises(ConflictException):
        dev.merge_into(main)
    dev.merge_into(main, strategy="source-wins")
    assert main.object("a").reader(mode="r").read() == "dev"


def test_what_is_staged_is_seen_and_dropped(repo: lakefs.Repository) -> None:
    main = repo.branch("main")
    put(main, **{"x/a": "1", "x/b": "2", "y": "3"})
    assert [(item.type, item.path) for item in main.uncommitted(max_amount=2)] == [("added", "x/a"), ("added", "x/b")]
    assert [item.path for item in main.objects(delimiter="/")] == ["x/", "y"]
    main.reset_changes("common_prefix", "x/")
    main.delete_objects(["y"])
    assert list(main.uncommitted()) == []
    with pytest.raises(NotFoundException):
        main.object("y").stat()


def test_an_import_is_followed_to_its_commit(repo: lakefs.Repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = max(tmp_path_factory.getbasetemp().glob("served*/data"), key=lambda path: len(list(path.iterdir())))
    manager = repo.branch("main").import_data(commit_message="imported").prefix(f"file://{folder}/", destination="in/")
    assert manager.run().ingested_objects == 3
    assert [item.path for item in repo.ref("main").objects()] == ["in/0.csv", "in/1.csv", "in/2.csv"]


def test_every_typed_answer_of_the_sdk_is_well_formed(client: Client, repo: lakefs.Repository) -> None:
    put(repo.branch("main"), a="1")
    repo.branch("main").commit("m")
    sdk = client.sdk_client
    assert sdk.config_api.get_config().storage_config.pre_sign_support
    assert sdk.auth_api.get_current_user().user.id == client.config.username
    assert [item.id for item in sdk.repositories_api.list_repositories(amount=1000).results if item.id == repo.id]
    assert sdk.objects_api.list_objects(repo.id, "main").results[0].size_bytes == 1
    assert sdk.refs_api.diff_refs(repo.id, "main~1", "main").results[0].type == "added"
    assert sdk.actions_api.list_repository_runs(repo.id).results == []
    base = sdk.refs_api.find_merge_base(repo.id, "main", "main")
    assert base.base_commit_id == base.source_commit_id
    with pytest.raises(lakefs_sdk.ApiException) as raised:
        sdk.repositories_api.get_gc_rules(repo.id)
    assert raised.value.status == 501


def test_lakefs_client_lists_uploads_and_downloads(
    credentials: Credentials, repo: lakefs.Repository, tmp_path: Path
) -> None:
    configuration = lakefs_client.Configuration(
        host=f"{credentials.endpoint}/api/v1",
        username=credentials.access_key_id,
        password=credentials.secret_access_key,
    )
    configuration.temp_folder_path = str(tmp_path)
    api = LakeFSClient(configuration)
    (tmp_path / "file").write_bytes(b"x" * 70_000)
    with (tmp_path / "file").open("rb") as stream:
        stats = api.objects_api.upload_object(repo.id, "main", "up", content=stream)
    assert (stats.size_bytes, stats.path) == (70_000, "up")
    assert [item.path for item in api.objects_api.list_objects(repo.id, "main").results] == ["up"]
    assert api.objects_api.get_object(repo.id, "main", "up").read() == b"x" * 70_000
    creation = lakefs_client.model.commit_creation.CommitCreation(message="m", metadata={"a": "b"})
    assert api.commits_api.commit(repo.id, "main", creation).metadata == {"a": "b"}


def test_lakefs_spec_is_a_file_system_on_it(credentials: Credentials, repo: lakefs.Repository, tmp_path: Path) -> None:
    files = LakeFSFileSystem(
        host=credentials.endpoint,
        username=credentials.access_key_id,
        password=credentials.secret_access_key,
        use_listings_cache=False,
    )
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    files.put_file(str(tmp_path / "a.csv"), f"{repo.id}/main/folder/a.csv")
    assert [item["name"] for item in files.ls(f"{repo.id}/main/folder/")] == [f"{repo.id}/main/folder/a.csv"]
    assert files.cat_file(f"{repo.id}/main/folder/a.csv") == b"a,b\n1,2\n"
    with files.open(f"lakefs://{repo.id}/main/folder/a.csv", "rb") as stream:
        assert stream.read() == b"a,b\n1,2\n"
    repo.branch("main").commit("m")
    with files.transaction(repo.id, "main") as transaction:
        files.pipe_file(f"{repo.id}/{transaction.branch.id}/b", b"together")
        transaction.commit("in a transaction")
    assert files.cat_file(f"{repo.id}/main/b") == b"together"
    files.get_file(f"{repo.id}/main/b", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"together"
    files.rm_file(f"{repo.id}/main/b")
    assert not files.exists(f"{repo.id}/main/b")

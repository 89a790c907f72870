"""The official Python clients of lakeFS, and lakefs-spec, at work on the served embedded lake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import lakefs
import lakefs_client
import lakefs_sdk
import pandas as pd
import pytest
import urllib3
from lakefs.client import Client
from lakefs.exceptions import (
    BadRequestException,
    ConflictException,
    NotFoundException,
    ObjectExistsException,
    ObjectNotFoundException,
    ServerException,
)
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


@pytest.mark.parametrize("pre_sign", [True, False])
def test_a_reader_reads_any_part_of_an_object(repo: lakefs.Repository, pre_sign: bool) -> None:
    data = bytes(range(256)) * 1000
    item = repo.branch("main").object("a")
    item.upload(data=data, pre_sign=pre_sign)
    with item.reader(mode="rb", pre_sign=pre_sign) as stream:
        assert (stream.read(10), stream.tell()) == (data[:10], 10)
        stream.seek(-7, os.SEEK_END)
        assert (stream.read(100), stream.read(1)) == (data[-7:], b"")
        stream.seek(200_000)
        stream.seek(56, os.SEEK_CUR)
        assert stream.read(300) == data[200_056:200_356]
    item.upload(data="é\nü\n\n", pre_sign=pre_sign)
    with item.reader(mode="r", pre_sign=pre_sign) as text:
        assert list(text) == ["é\n", "ü\n", "\n"]
    item.upload(data=b"", pre_sign=pre_sign)
    with item.reader(mode="rb", pre_sign=pre_sign) as stream:
        assert stream.read() == b""


@pytest.mark.parametrize("pre_sign", [True, False])
def test_a_writer_of_a_new_object_replaces_none(repo: lakefs.Repository, pre_sign: bool) -> None:
    item = repo.branch("main").object("a")
    first, late = (item.writer(mode="xb", pre_sign=pre_sign) for _ in range(2))
    first.write(b"first")
    late.write(b"late")
    first.close()
    with pytest.raises(ObjectExistsException):
        late.close()
    assert item.reader(mode="rb").read() == b"first"


def test_a_copy_and_a_removal_are_changes_like_others(repo: lakefs.Repository) -> None:
    main = repo.branch("main")
    put(main, a="1", b="2")
    main.commit("m")
    copied = main.object("a").copy("main", "folder/copy")
    main.object("b").delete()
    assert (copied.reader(mode="r").read(), main.object("b").exists()) == ("1", False)
    assert [(item.type, item.path) for item in main.uncommitted()] == [("removed", "b"), ("added", "folder/copy")]
    main.reset_changes()
    assert [item.path for item in main.objects()] == ["a", "b"]
    with pytest.raises(ObjectNotFoundException):
        main.object("folder/copy").reader(mode="r").read()


def test_listings_longer_than_a_page_are_whole_whatever_the_pages(repo: lakefs.Repository, tmp_path: Path) -> None:
    main = repo.branch("main")
    wanted = sorted(f"{number % 7}/{number:04}" for number in range(1100))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: main.object(path).upload(data=b"x", pre_sign=False), wanted))
    assert [item.path for item in main.uncommitted(amount=333)] == wanted
    main.commit("m")
    for amount in (1000, 137):
        assert [item.path for item in main.objects(amount=amount)] == wanted
    assert [item.path for item in main.objects(amount=2, delimiter="/")] == [f"{number}/" for number in range(7)]
    assert [item.path for item in main.objects(prefix="3/", after=wanted[500], amount=10)] == [
        path for path in wanted if path.startswith("3/") and path > wanted[500]
    ]
    assert [item.path for item in repo.ref("main~1").diff("main", amount=400)] == wanted
    for name in ("b", "c", "d"):
        repo.branch(name).create("main")
    assert [branch.id for branch in repo.branches(amount=1)] == ["b", "c", "d", "main"]
    assert [commit.message for commit in main.log(amount=1)] == ["m", "Repository created"]


def test_a_commit_has_its_author_and_its_words(repo: lakefs.Repository, client: Client) -> None:
    main = repo.branch("main")
    put(main, a="1")
    found = main.commit("é \U0001f600\nsecond line", metadata={"k": "ü"}).get_commit()
    assert (found.message, found.metadata) == ("é \U0001f600\nsecond line", {"k": "ü"})
    assert found.committer == client.config.username
    with pytest.raises(BadRequestException):
        main.commit("nothing is staged")


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


def test_an_address_is_asked_for_filled_and_linked(client: Client, repo: lakefs.Repository) -> None:
    staging = client.sdk_client.staging_api
    place = staging.get_physical_address(repo.id, "main", "a", presign=True)
    sent = urllib3.request("PUT", place.presigned_url, body=b"bytes")
    assert sent.status == 200
    words = lakefs_sdk.StagingMetadata(
        staging=place, checksum=sent.headers["ETag"], size_bytes=5, user_metadata={"k": "v"}, content_type="text/csv"
    )
    stats = staging.link_physical_address(repo.id, "main", "a", words)
    assert (stats.path, stats.size_bytes, stats.metadata, stats.content_type) == ("a", 5, {"k": "v"}, "text/csv")
    with pytest.raises(lakefs_sdk.ApiException) as raised:
        staging.link_physical_address(repo.id, "main", "a", words)
    assert raised.value.status == 400
    assert repo.ref("main").object("a").reader(mode="rb").read() == b"bytes"


def test_what_is_said_of_an_object_can_be_changed(client: Client, repo: lakefs.Repository) -> None:
    put(repo.branch("main"), a="1")
    sdk = client.sdk_client
    wanted = lakefs_sdk.UpdateObjectUserMetadata(set={"k": "v"})
    sdk.experimental_api.update_object_user_metadata(repo.id, "main", "a", wanted)
    stats = sdk.objects_api.stat_object(repo.id, "main", "a")
    assert (stats.metadata, stats.size_bytes) == ({"k": "v"}, 1)
    assert sdk.objects_api.head_object(repo.id, "main", "a") is None


def test_a_branch_is_reset_to_another_commit(client: Client, repo: lakefs.Repository) -> None:
    main = repo.branch("main")
    put(main, a="1")
    first = main.commit("first")
    put(main, a="2")
    main.commit("second")
    client.sdk_client.experimental_api.hard_reset_branch(repo.id, "main", first.id)
    assert main.get_commit().id == first.id
    assert main.object("a").reader(mode="r").read() == "1"


def test_the_runs_of_hooks_are_well_formed(client: Client, repo: lakefs.Repository) -> None:
    main = repo.branch("main")
    put(main, **{"_lakefs_actions/guard.yaml": "not an action"})
    with pytest.raises(ServerException) as raised:
        main.commit("m")
    assert raised.value.status_code == 412
    actions = client.sdk_client.actions_api
    [run] = actions.list_repository_runs(repo.id, branch="main").results
    assert (run.event_type, run.status, run.branch) == ("pre-commit", "failed", "main")
    assert actions.get_run(repo.id, run.run_id).run_id == run.run_id
    [hook] = actions.list_run_hooks(repo.id, run.run_id).results
    assert hook.status == "failed"
    assert b"action file" in bytes(actions.get_run_hook_output(repo.id, run.run_id, hook.hook_run_id))
    assert actions.list_repository_runs(repo.id, branch="other").results == []


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


def test_pandas_reads_and_writes_lakefs_urls(credentials: Credentials, repo: lakefs.Repository) -> None:
    options = {
        "host": credentials.endpoint,
        "username": credentials.access_key_id,
        "password": credentials.secret_access_key,
    }
    table = pd.DataFrame({"a": [1, 2], "b": ["é", "x,y"]})
    for ending, write, read in (
        ("csv", partial(table.to_csv, index=False), pd.read_csv),
        ("parquet", table.to_parquet, pd.read_parquet),
    ):
        url = f"lakefs://{repo.id}/main/tables/t.{ending}"
        write(url, storage_options=options)
        pd.testing.assert_frame_equal(read(url, storage_options=options), table)


def test_lakefs_spec_puts_gets_and_removes_folders(
    credentials: Credentials, repo: lakefs.Repository, tmp_path: Path
) -> None:
    files = LakeFSFileSystem(
        host=credentials.endpoint,
        username=credentials.access_key_id,
        password=credentials.secret_access_key,
        use_listings_cache=False,
    )
    for name in ("x/1", "x/y/2", "3"):
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_text(name)
    place = f"{repo.id}/main/in"
    files.put(f"{tmp_path}/up/", f"{place}/", recursive=True)
    assert files.find(place) == [f"{place}/{name}" for name in ("3", "x/1", "x/y/2")]
    assert files.du(place) == len("3x/1x/y/2")
    files.get(f"{place}/", f"{tmp_path}/down/", recursive=True)
    assert (tmp_path / "down" / "x" / "y" / "2").read_text() == "x/y/2"
    files.cp_file(f"{place}/3", f"{place}/4")
    assert files.cat_file(f"{place}/4") == b"3"
    assert files.cat_file(f"{place}/x/1", start=2, end=3) == b"1"
    files.rm(f"{place}/x", recursive=True)
    assert files.find(place) == [f"{place}/3", f"{place}/4"]
    with pytest.raises(FileNotFoundError):
        files.cat_file(f"{place}/x/1")

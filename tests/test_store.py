"""An artifact is there whole or not at all, built once however many want it, and a broken store says so."""

import errno
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qnn.errors import StoreError, ToolFailed
from qnn.store import Store, digest_of, digest_of_files


def _write(folder: Path) -> None:
    (folder / "value").write_text("whole")


def test_an_artifact_is_built_once_and_then_found(tmp_path: Path) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        _write(folder)

    for _ in range(2):  # another Store on the same folder is another run
        assert (Store(tmp_path).get_or_build("kind", "key", build) / "value").read_text() == "whole"
    assert len(calls) == 1


def test_of_many_threads_that_want_the_same_one_builds_and_all_get_it(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def build(folder: Path) -> None:
        calls.append(threading.get_ident())
        time.sleep(0.2)
        _write(folder)

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: store.get_or_build("kind", "key", build), range(8)))
    assert len(calls) == 1
    assert set(paths) == {store.path("kind", "key")}


def test_a_failed_build_leaves_nothing_and_is_not_tried_twice_by_one_run(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def build(folder: Path) -> None:
        calls.append(folder)
        _write(folder)
        raise ToolFailed("the tool broke")

    for _ in range(2):
        with pytest.raises(ToolFailed, match="the tool broke"):
            store.get_or_build("kind", "key", build)
    assert len(calls) == 1
    assert not store.has("kind", "key")
    assert not list((tmp_path / "building").iterdir())
    assert (Store(tmp_path).get_or_build("kind", "key", _write) / "value").exists()  # the next run tries again


def _build_slowly(root: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        time.sleep(600)

    Store(root).get_or_build("kind", "key", build)


def test_after_a_kill_in_the_middle_of_a_build_the_next_run_builds_anew(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_build_slowly, args=(tmp_path,))
    process.start()
    building, deadline = tmp_path / "building", time.monotonic() + 60
    while not list(building.glob("kind-key-*/half")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(building.glob("kind-key-*/half"))
    process.kill()
    process.join()
    assert not Store(tmp_path).has("kind", "key")
    folder = Store(tmp_path).get_or_build("kind", "key", _write)
    assert [path.name for path in folder.iterdir()] == ["value"]
    assert not list(building.iterdir())


@pytest.mark.parametrize(
    ("code", "message"), [(errno.EROFS, "read-only"), (errno.EACCES, "may not be written"), (errno.EDQUOT, "quota")]
)
def test_a_store_that_cannot_be_written_says_why_and_what_to_do(tmp_path: Path, code: int, message: str) -> None:
    def build(folder: Path) -> None:
        raise OSError(code, os.strerror(code), str(folder / "value"))

    with pytest.raises(StoreError, match=rf"{message}.*--store"):
        Store(tmp_path).get_or_build("kind", "key", build)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_leaves_no_half_artifact(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        _write(folder)
        Path("/dev/full").write_text("more")

    with pytest.raises(StoreError, match="the disk is full"):
        Store(tmp_path).get_or_build("kind", "key", build)
    assert not Store(tmp_path).has("kind", "key")


def test_a_store_whose_path_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="not a folder"):
        Store(tmp_path / "file").get_or_build("kind", "key", _write)


def test_a_fault_of_something_else_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/file")

    with pytest.raises(PermissionError):
        Store(tmp_path).get_or_build("kind", "key", build)


def test_digests_depend_on_content_alone(tmp_path: Path) -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
    for folder, content in (("one", "x"), ("two", "x"), ("three", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text(content)
        (tmp_path / folder / "notes.txt").write_text(folder)
    one, two, three = (digest_of_files(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two != three

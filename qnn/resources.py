"""Resources of a netlist: what each cell of the 7 series takes, sums, and shares of a part's budget. Pure rules.

What a cell takes follows Xilinx UG474 (7 Series FPGAs Configurable Logic Block) and UG473 (Memory Resources). Cells
are counted as they stand: a placer may put two small LUTs, or two SRL16E, into one LUT with two outputs (O5, O6),
so ``lut`` is an upper bound of what is placed.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from qnn.errors import DesignError

__all__ = ["CELLS", "Part", "Resources", "count_cells", "parse_parts", "shares", "total"]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Numbers of the part's elements that a netlist takes."""

    lut: int = 0
    """LUTs in all: logic, memory and shift registers."""
    lut_memory: int = 0
    """Those of `lut` that hold distributed memory or shift registers, and so need a SLICEM."""
    ff: int = 0
    carry4: int = 0
    muxf7: int = 0
    muxf8: int = 0
    dsp: int = 0
    bram18: int = 0
    """RAMB18E1: half a 36 Kb block each."""
    bram36: int = 0
    """RAMB36E1."""

    @property
    def bram36_equivalent(self) -> float:
        """Block RAM in blocks of 36 Kb; two RAMB18E1 share one block, so the half steps exist (UG473)."""
        return self.bram36 + self.bram18 / 2

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def times(self, count: int) -> "Resources":
        """`count` copies."""
        return Resources(**{f.name: count * getattr(self, f.name) for f in fields(self)})


def _memory(luts: int) -> Resources:
    return Resources(lut=luts, lut_memory=luts)


_LOGIC = Resources(lut=1)
_FF = Resources(ff=1)
CELLS: Mapping[str, Resources] = {
    **{f"LUT{inputs}": _LOGIC for inputs in range(1, 7)},
    # One LUT with both outputs used (UG474, "Look-Up Table").
    "LUT6_2": _LOGIC,
    # A slice has no inverter of its own in front of a flip-flop's D or a carry chain: what mapping left is a LUT1.
    "INV": _LOGIC,
    # Each a storage element of a slice, with or without set, reset and enable (UG474, "Storage Elements").
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), _FF),
    # Wires and multiplexers that every slice has beside its LUTs.
    "CARRY4": Resources(carry4=1),
    "MUXF7": Resources(muxf7=1),
    "MUXF8": Resources(muxf8=1),
    # LUTs that a distributed memory takes (UG474, table "Distributed RAM Configuration"): a port costs a LUT for
    # every 64 words, or for every 32 words of two bits. The S after the width means one port, D two.
    "RAM32X1S": _memory(1),
    "RAM32X1D": _memory(2),
    "RAM32M": _memory(4),
    "RAM64X1S": _memory(1),
    "RAM64X1D": _memory(2),
    "RAM64M": _memory(4),
    "RAM128X1S": _memory(2),
    "RAM128X1D": _memory(4),
    "RAM256X1S": _memory(4),
    # Shift registers up to 32 deep take one LUT (UG474, "Shift Registers").
    "SRL16E": _memory(1),
    "SRLC32E": _memory(1),
    "DSP48E1": Resources(dsp=1),
    "RAMB18E1": Resources(bram18=1),
    "RAMB36E1": Resources(bram36=1),
}
"""What each cell of a 7-series netlist takes. A cell that is not here is an error, never nothing."""


def total(parts: Iterable[Resources]) -> Resources:
    """The sum; of no parts, nothing."""
    result = Resources()
    for part in parts:
        result += part
    return result


def count_cells(cells: Mapping[str, int]) -> Resources:
    """Resources of a netlist of `cells`: {cell type: how many}.

    Raises DesignError naming every cell type that CELLS does not know.
    """
    unknown = sorted(cells.keys() - CELLS.keys())
    if unknown:
        named = ", ".join(f"{name} ({cells[name]})" for name in unknown)
        raise DesignError(
            f"the netlist holds cells whose cost is not known: {named}; "
            "add what each takes, with its source, to CELLS in qnn/resources.py"
        )
    return total(CELLS[name].times(count) for name, count in cells.items())


@dataclass(frozen=True, kw_only=True)
class Part:
    """What an FPGA part offers."""

    name: str
    lut: int
    lut_memory: int
    """LUTs in SLICEMs."""
    ff: int
    bram36: int
    dsp: int


def parse_parts(text: str) -> dict[str, Part]:
    """Parts by name from TOML: one table a part, with the numbers of Part.

    Raises DesignError where the text is not TOML, or a number is missing, unknown or not a positive whole number.
    """
    wanted = {f.name for f in fields(Part)} - {"name"}
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DesignError(f"the table of parts is not TOML: {error}") from None
    parts = {}
    for name, numbers in tables.items():
        if not isinstance(numbers, dict):
            raise DesignError(f"part {name} has to be a table of numbers, not {numbers!r}")
        if numbers.keys() != wanted:
            wrong = ", ".join(sorted(numbers.keys() ^ wanted))
            raise DesignError(f"part {name}: these numbers are missing or not known: {wrong}")
        for key, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise DesignError(f"part {name}: {key} is {value!r}, it has to be a whole number from 1")
        parts[name] = Part(name=name, **numbers)
    return parts


def shares(resources: Resources, part: Part) -> dict[str, float]:
    """{resource: share of the part's budget}; above 1 it does not fit. Out of context, before placement."""
    return {
        "lut": resources.lut / part.lut,
        "lut_memory": resources.lut_memory / part.lut_memory,
        "ff": resources.ff / part.ff,
        "bram36": resources.bram36_equivalent / part.bram36,
        "dsp": resources.dsp / part.dsp,
    }

"""Resources of a netlist: what each cell of the 7 series takes, sums, and what of a part's budget is left. Pure rules.

What a cell takes follows Xilinx UG474 (7 Series FPGAs Configurable Logic Block) and UG473 (Memory Resources). Cells
are counted as they stand: a placer may put two small LUTs, or two SRL16E, into one LUT with two outputs (O5, O6),
so ``lut`` is an upper bound of what is placed.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from qnn.errors import DesignError

__all__ = [
    "BUDGETED",
    "CELLS",
    "FAMILIES",
    "Budget",
    "Family",
    "Part",
    "Resources",
    "count_cells",
    "margins",
    "overflows",
    "parse_parts",
    "shares",
    "total",
]


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


BUDGETED = ("lut", "lut_memory", "ff", "bram36", "dsp")
"""What a part has so much of; the other numbers of Resources come with these."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is common to the parts of a family."""

    dsp_multiplier_bits: int
    """Width of the DSP slice's wide multiplier input: 25 of a DSP48E1 (UG479), 27 of a DSP48E2 (UG579)."""
    no_synthesis: str | None = None
    """Why Yosys makes no netlists for it; None where it does."""


FAMILIES: Mapping[str, Family] = {
    "zynq-7000": Family(dsp_multiplier_bits=25),
    "zynq-ultrascale-plus": Family(
        dsp_multiplier_bits=27,
        no_synthesis=(
            "the LUT memories that Yosys 0.70 knows there are said to hold 65,536 words (ABITS 16 in its "
            "lutrams_xcu.txt, where the 512 words of a RAM512X1S are meant), and it fails on FINN's weight memories"
        ),
    ),
}
"""By the name that the table of parts has."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much there is of each resource."""

    lut: int
    lut_memory: int
    """LUTs in SLICEMs."""
    ff: int
    bram36: float
    dsp: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """An FPGA part."""

    name: str
    family: str
    """A name of FAMILIES."""
    alone: Budget
    """All of it, for the accelerator alone."""
    beside_shell: Budget | None
    """What the shell around the accelerator leaves; None where no published figure of one is known."""

    @property
    def budget(self) -> Budget:
        """What an accelerator has to fit: what the shell leaves, or all of it where no shell is known."""
        return self.beside_shell or self.alone


def _numbers(table: Mapping[str, object], where: str, *, least: int) -> Mapping[str, int]:
    if table.keys() != set(BUDGETED):
        wrong = ", ".join(sorted(table.keys() ^ set(BUDGETED)))
        raise DesignError(f"{where}: these numbers are missing or not known: {wrong}")
    numbers = {}
    for key, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DesignError(f"{where}: {key} is {value!r}, it has to be a whole number from {least}")
        numbers[key] = value
    return numbers


def _part(name: str, table: Mapping[str, object], shells: Mapping[str, Mapping[str, int]]) -> Part:
    family = table.get("family")
    if family not in FAMILIES:
        raise DesignError(f"part {name}: family is {family!r}, there are {', '.join(FAMILIES)}")
    numbers = _numbers({key: value for key, value in table.items() if key != "family"}, f"part {name}", least=1)
    shell = shells.get(str(family))
    left = None if shell is None else {key: number - shell[key] for key, number in numbers.items()}
    too_small = [key for key, number in (left or {}).items() if number < 0]
    if too_small:
        raise DesignError(f"part {name}: the shell of its family takes more than it has of {', '.join(too_small)}")
    return Part(
        name=name,
        family=str(family),
        alone=Budget(**numbers),
        beside_shell=None if left is None else Budget(**left),
    )


def parse_parts(text: str) -> dict[str, Part]:
    """Parts by name from TOML: a table [part.NAME] for each, and [shell.FAMILY] for what a family's shell takes.

    Raises DesignError where the text is not TOML, a family is not known, or a number is missing, unknown or not a
    whole number.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DesignError(f"the table of parts is not TOML: {error}") from None
    for key, named in tables.items():
        tables_of = named.values() if isinstance(named, dict) else [named]
        if key not in ("part", "shell") or not all(isinstance(table, dict) for table in tables_of):
            raise DesignError(f"the table of parts holds part.NAME and shell.FAMILY with numbers, not {key} = {named}")
    shells = {
        family: _numbers(numbers, f"shell {family}", least=0) for family, numbers in tables.get("shell", {}).items()
    }
    foreign = sorted(shells.keys() - FAMILIES.keys())
    if foreign:
        raise DesignError(f"shell {foreign[0]}: there is no such family, there are {', '.join(FAMILIES)}")
    return {name: _part(name, table, shells) for name, table in tables.get("part", {}).items()}


def _taken(resources: Resources) -> dict[str, float]:
    return {
        "lut": resources.lut,
        "lut_memory": resources.lut_memory,
        "ff": resources.ff,
        "bram36": resources.bram36_equivalent,
        "dsp": resources.dsp,
    }


def shares(resources: Resources, budget: Budget) -> dict[str, float]:
    """{resource: share of the budget}; above 1 it does not fit. Out of context, before placement."""
    return {name: taken / getattr(budget, name) for name, taken in _taken(resources).items()}


def margins(resources: Resources, budget: Budget) -> dict[str, float]:
    """{resource: how much of the budget is left}; negative where it does not fit."""
    return {name: getattr(budget, name) - taken for name, taken in _taken(resources).items()}


def overflows(resources: Resources, budget: Budget) -> tuple[str, ...]:
    """The resources of which more is taken than the budget has; none where it fits."""
    return tuple(name for name, left in margins(resources, budget).items() if left < 0)

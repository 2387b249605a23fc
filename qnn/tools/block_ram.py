"""Verilog models of the 7 series' block RAMs, RAMB18E1 and RAMB36E1, whose bodies in Yosys' library are empty.

They behave as Xilinx UG473 (7 Series FPGAs Memory Resources) says, in the modes that Yosys' synth_xilinx gives
(``brams_xc6v_map.v``): true and simple dual port, READ_FIRST, no output register, no cascade, no error correction. What
is not modelled is refused by check(), which reads a netlist's instances.

A block is an array of bytes with a parity bit each, 2,048 or 4,096 of them. The lower three bits of an address choose
a bit of a byte, so a port of 1, 2 or 4 bits sees no parity, and a wider one takes 1, 2, 4 or 8 whole bytes at a time.
In simple dual port A reads and B writes, and the widest word (36 or 72) uses the data pins of both.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qnn.errors import DesignError

__all__ = ["BLOCK_RAMS", "BlockRam", "Instance", "check", "instances", "model"]


@dataclass(frozen=True, kw_only=True)
class BlockRam:
    """What differs between the two cells."""

    name: str
    address_bits: int
    """Pins of an address; of the RAMB36E1's sixteen the highest is for cascades alone."""
    data_bits: int
    """Data pins of a port, without parity."""
    init_strings: int
    """INIT_00 and up, of 256 bits of data each; an eighth as many INITP_00 and up hold the parity."""

    @property
    def bytes(self) -> int:
        """Bytes that it holds."""
        return 32 * self.init_strings

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of a port in true dual port, with parity; simple dual port has the double of the last, too."""
        return (1, 2, 4, 9, 18) if self.data_bits == 16 else (1, 2, 4, 9, 18, 36)

    @property
    def widest(self) -> int:
        """Width of a port in simple dual port that uses the pins of both."""
        return 2 * self.widths[-1]


BLOCK_RAMS: Mapping[str, BlockRam] = {
    ram.name: ram
    for ram in (
        BlockRam(name="RAMB18E1", address_bits=14, data_bits=16, init_strings=64),
        BlockRam(name="RAMB36E1", address_bits=16, data_bits=32, init_strings=128),
    )
}

_INVERTIBLE = ("CLKARDCLK", "CLKBWRCLK", "ENARDEN", "ENBWREN", "RSTRAMARSTRAM", "RSTRAMB", "RSTREGARSTREG", "RSTREGB")
# {parameter: what it is where a netlist does not say}, and the only value that the models take.
_FIXED = {
    "DOA_REG": 0,
    "DOB_REG": 0,
    "RAM_EXTENSION_A": "NONE",
    "RAM_EXTENSION_B": "NONE",
    "EN_ECC_READ": "FALSE",
    "EN_ECC_WRITE": "FALSE",
    "INIT_FILE": "NONE",
    **{f"IS_{pin}_INVERTED": 0 for pin in _INVERTIBLE},
}
_WRITE_MODES = ("WRITE_MODE_A", "WRITE_MODE_B")
_WIDTHS = ("READ_WIDTH_A", "READ_WIDTH_B", "WRITE_WIDTH_A", "WRITE_WIDTH_B")
# What has no effect without a reset, an output register, or the vendor's simulator.
_WITHOUT_EFFECT = (
    "SRVAL_A",
    "SRVAL_B",
    "RSTREG_PRIORITY_A",
    "RSTREG_PRIORITY_B",
    "SIM_COLLISION_CHECK",
    "SIM_DEVICE",
    "RDADDR_COLLISION_HWCONFIG",
)
_ZERO_PINS = ("RSTRAMARSTRAM", "RSTRAMB")

# ------------------------------------------------------------------------------------------------------- the models

_HEAD = """\
module {name} (
    input CLKARDCLK, CLKBWRCLK, ENARDEN, ENBWREN,
    input REGCEAREGCE, REGCEB, RSTRAMARSTRAM, RSTRAMB, RSTREGARSTREG, RSTREGB,
    input [{address_bits}-1:0] ADDRARDADDR, ADDRBWRADDR,
    input [{data_bits}-1:0] DIADI, DIBDI,
    input [{data_bits}/8-1:0] DIPADIP, DIPBDIP, WEA,
    input [{data_bits}/4-1:0] WEBWE,{inputs}
    output [{data_bits}-1:0] DOADO, DOBDO,
    output [{data_bits}/8-1:0] DOPADOP, DOPBDOP{outputs}
);
"""
_MORE_INPUTS = "\n    input CASCADEINA, CASCADEINB, INJECTDBITERR, INJECTSBITERR,"
_MORE_OUTPUTS = """,
    output CASCADEOUTA, CASCADEOUTB, DBITERR, SBITERR, output [7:0] ECCPARITY, output [8:0] RDADDRECC"""

_BODY = """\
    localparam PORT = {data_bits};
    localparam SIMPLE = RAM_MODE == "SDP";
    localparam [256*{init_strings}-1:0] DATA = {{{data}}};
    localparam [256*{init_strings}/8-1:0] PARITY = {{{parity}}};

    reg [8:0] bytes [0:{bytes}-1];
    integer i;
    initial for (i = 0; i < {bytes}; i = i + 1) bytes[i] = {{PARITY[i], DATA[8*i +: 8]}};

    // Words as wide as both ports together: what simple dual port uses.
    reg [2*PORT-1:0] read_a = 0;
    reg [2*PORT/8-1:0] parity_a = 0;
    reg [PORT-1:0] read_b = 0;
    reg [PORT/8-1:0] parity_b = 0;
    wire [2*PORT-1:0] write_b = SIMPLE && WRITE_WIDTH_B > PORT ? {{DIBDI, DIADI}} : {{{{PORT{{1'b0}}}}, DIBDI}};
    wire [2*PORT/8-1:0] write_parity_b =
        SIMPLE && WRITE_WIDTH_B > PORT ? {{DIPBDIP, DIPADIP}} : {{{{PORT/8{{1'b0}}}}, DIPBDIP}};
    assign DOADO = read_a[PORT-1:0];
    assign DOPADOP = parity_a[PORT/8-1:0];
    assign DOBDO = SIMPLE ? read_a[2*PORT-1:PORT] : read_b;
    assign DOPBDOP = SIMPLE ? parity_a[2*PORT/8-1:PORT/8] : parity_b;

{ports}endmodule
"""

_READ = """\
    if ({width} >= 9) begin : wide_read_{port}
        integer k;
        always @(posedge {clock}) if ({enable})
            for (k = 0; k < {width}/9; k = k + 1)
                {{parity_{port}[k], read_{port}[8*k +: 8]}} <=
                    bytes[({address}[{top}:3] & ~({width}/9 - 1)) | k];
    end else if ({width} > 0) begin : narrow_read_{port}
        always @(posedge {clock}) if ({enable})
            read_{port}[{width}-1:0] <= bytes[{address}[{top}:3]][{address}[2:0] & ~3'({width} - 1) +: {width}];
    end
"""
_WRITE = """\
    if ({width} >= 9) begin : wide_write_{port}
        integer k;
        always @(posedge {clock}) if ({enable})
            for (k = 0; k < {width}/9; k = k + 1)
                if ({write_enable}[k])
                    bytes[({address}[{top}:3] & ~({width}/9 - 1)) | k] <= {{{parity}[k], {data}[8*k +: 8]}};
    end else if ({width} > 0) begin : narrow_write_{port}
        always @(posedge {clock}) if ({enable} && {write_enable}[0])
            bytes[{address}[{top}:3]][{address}[2:0] & ~3'({width} - 1) +: {width}] <= {data}[{width}-1:0];
    end
"""


def _port(ram: BlockRam, template: str, port: str, width: str) -> str:
    pins = {
        "A": {"address": "ADDRARDADDR", "clock": "CLKARDCLK", "enable": "ENARDEN", "write_enable": "WEA"},
        "B": {"address": "ADDRBWRADDR", "clock": "CLKBWRCLK", "enable": "ENBWREN", "write_enable": "WEBWE"},
    }[port]
    data = {"A": {"data": "DIADI", "parity": "DIPADIP"}, "B": {"data": "write_b", "parity": "write_parity_b"}}[port]
    top = (ram.bytes - 1).bit_length() + 2
    return template.format(port=port.lower(), width=width, top=top, **pins, **data)


def model(ram: BlockRam) -> str:
    """The Verilog module `ram.name`, with the ports and parameters of the cell.

    Non-blocking assignments alone: a read gets what was there before the edge, also where the same edge writes
    (READ_FIRST). Outputs are 0 until the first read, which a netlist with undefined INIT_A and INIT_B allows.
    """
    inits = [f"INIT_{k:02X}" for k in range(ram.init_strings)]
    parities = [f"INITP_{k:02X}" for k in range(ram.init_strings // 8)]
    zeros = [*(name for name, value in _FIXED.items() if value == 0), *_WIDTHS, "INIT_A", "INIT_B"]
    texts = [*(name for name, value in _FIXED.items() if value != 0), *_WRITE_MODES, "RAM_MODE"]
    parameters = [f"    parameter {name} = 0;" for name in (*zeros, *_WITHOUT_EFFECT)]
    parameters += [f'    parameter {name} = "";' for name in texts]
    parameters += [f"    parameter [255:0] {name} = 256'h0;" for name in (*inits, *parities)]
    ports = [_port(ram, _READ, port, f"READ_WIDTH_{port}") for port in "AB"]
    ports += [_port(ram, _WRITE, port, f"WRITE_WIDTH_{port}") for port in "AB"]
    cascades = ram.address_bits == 16
    head = _HEAD.format(
        name=ram.name,
        address_bits=ram.address_bits,
        data_bits=ram.data_bits,
        inputs=_MORE_INPUTS if cascades else "",
        outputs=_MORE_OUTPUTS if cascades else "",
    )
    body = _BODY.format(
        data_bits=ram.data_bits,
        init_strings=ram.init_strings,
        bytes=ram.bytes,
        data=", ".join(reversed(inits)),
        parity=", ".join(reversed(parities)),
        ports="".join(ports),
    )
    return "\n".join([head.rstrip(), *parameters, "", body])


# ------------------------------------------------------------------------------------------- what a netlist asks for


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A block RAM of a netlist: its parameters and pins as they are written there."""

    ram: BlockRam
    name: str
    parameters: Mapping[str, str]
    pins: Mapping[str, str]


_CELL = "|".join(BLOCK_RAMS)
_INSTANCE = re.compile(
    rf"^ *(?P<cell>{_CELL}) (?:#\(\n(?P<parameters>.*?)\n *\) )?(?P<name>\\\S+ |\w+) ?\(\n(?P<pins>.*?)\n *\);$",
    re.DOTALL | re.MULTILINE,
)
_CONNECTION = re.compile(r"^ *\.(\w+)\((.*)\),?$", re.MULTILINE)


def instances(netlist: str) -> Iterator[Instance]:
    """The block RAMs of a netlist as Yosys' write_verilog lays it out: a parameter or a pin a line.

    Raises DesignError where there is one that cannot be read.
    """
    found = list(_INSTANCE.finditer(netlist))
    begun = len(re.findall(rf"^ *(?:{_CELL})\b", netlist, re.MULTILINE))
    if len(found) != begun:
        raise DesignError(
            f"the netlist has {begun} block RAMs, of which {len(found)} can be read: it is not laid out as by "
            "Yosys' write_verilog -noattr"
        )
    for match in found:
        yield Instance(
            ram=BLOCK_RAMS[match["cell"]],
            name=match["name"].strip().removeprefix("\\"),
            parameters=dict(_CONNECTION.findall(match["parameters"] or "")),
            pins=dict(_CONNECTION.findall(match["pins"])),
        )


def _value(text: str) -> int | str:
    """A parameter: text in quotes, or a whole number such as ``32'sd18``; undefined bits stay text."""
    if text.startswith('"'):
        return text.strip('"')
    match = re.fullmatch(r"(?:\d+)?'s?([bdh])([0-9a-f_]+)|(\d+)", text.lower())
    if match is None:
        return text
    base = {"b": 2, "d": 10, "h": 16}[match[1] or "d"]
    return int(match[2] or match[3], base)


def _can_be_zero(text: str) -> bool:
    """Whether no bit of a constant is 1."""
    return _value(text) == 0 or re.fullmatch(r"\d+'s?[bh][0x_]+", text.lower()) is not None


def _refusal(instance: Instance, what: str, text: str, taken: str) -> DesignError:
    return DesignError(
        f"{instance.ram.name} {instance.name}: {what} is {text}, and the suite's model of block RAMs takes {taken} "
        "alone: extend qnn/tools/block_ram.py, with its test, before this netlist is simulated"
    )


def _check(instance: Instance) -> None:
    values = {name: _value(text) for name, text in instance.parameters.items()}
    mode = values.get("RAM_MODE", "TDP")
    if mode not in ("TDP", "SDP"):
        raise _refusal(instance, "RAM_MODE", str(mode), "TDP and SDP")
    widths = instance.ram.widths
    for name in _WIDTHS:
        taken: tuple[int, ...] = (0, *widths)
        if mode == "SDP":
            taken = (0, *widths, instance.ram.widest) if name in ("READ_WIDTH_A", "WRITE_WIDTH_B") else (0,)
        if values.get(name, 0) not in taken:
            raise _refusal(instance, name, instance.parameters[name], ", ".join(map(str, taken)))
    for name in _WRITE_MODES:
        if values.get(name, "WRITE_FIRST") != "READ_FIRST":
            raise _refusal(instance, name, str(values.get(name, "WRITE_FIRST")), "READ_FIRST")
    for name, text in instance.parameters.items():
        if name in _FIXED and values[name] != _FIXED[name]:
            raise _refusal(instance, name, text, str(_FIXED[name]))
        if name in ("INIT_A", "INIT_B") and not _can_be_zero(text):
            raise _refusal(instance, name, text, "0 and undefined")
        contents = re.fullmatch(r"INITP?_([0-9A-F]{2})", name)
        if contents and int(contents[1], 16) < instance.ram.init_strings // (8 if "INITP" in name else 1):
            continue
        if name not in (*_FIXED, *_WRITE_MODES, *_WIDTHS, *_WITHOUT_EFFECT, "INIT_A", "INIT_B", "RAM_MODE"):
            raise _refusal(instance, name, text, "the parameters of UG473")
    for pin in _ZERO_PINS:
        if not _can_be_zero(instance.pins.get(pin) or "1'h0"):
            raise _refusal(instance, f"pin {pin}", instance.pins[pin], "a constant 0 (no reset of the output)")


def check(netlist: str) -> None:
    """Raise DesignError, naming cell, parameter and value, for the first block RAM in a mode that is not modelled."""
    for instance in instances(netlist):
        _check(instance)

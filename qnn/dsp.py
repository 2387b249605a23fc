"""How many DSP slices FINN's RTL matrix-vector unit takes: exact, from its parameters alone. Pure functions.

finn-rtllib, ``mvu/mvu.sv``: a DSP slice multiplies one activation with the weights of several output channels, which
lie side by side on its wide input in lanes. Each input channel (SIMD) has slices of its own. So a DSP48E1 takes three
channels of 3-bit weights on 8-bit activations, two of 4-bit ones. FINN's own estimate counts four everywhere
(MVAU_rtl.dsp_estimation), whatever the bit widths.
"""

__all__ = ["dsp_slices", "lanes"]


def lanes(*, weight_bits: int, activation_bits: int, narrow_weights: bool, multiplier_bits: int) -> int:
    """Output channels that share a DSP slice (``mvu.sv``, NUM_LANES).

    A product needs weight_bits + activation_bits - 1 bits of the lane, the last lane on the left no more than the
    weight itself. Weights that hold the lowest value of their type (not `narrow_weights`) need one more bit there.
    """
    if multiplier_bits == weight_bits:
        return 1
    lane_bits = weight_bits + activation_bits - 1
    return 1 + (multiplier_bits - (not narrow_weights) - weight_bits) // lane_bits


def dsp_slices(
    *, pe: int, simd: int, weight_bits: int, activation_bits: int, narrow_weights: bool, multiplier_bits: int
) -> int:
    """DSP slices of one unit: PE / lanes, rounded up, for each of the SIMD input channels (``mvu.sv``, PIPE_COUNT)."""
    shared = lanes(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        narrow_weights=narrow_weights,
        multiplier_bits=multiplier_bits,
    )
    return -(-pe // shared) * simd

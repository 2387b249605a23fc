"""The throughput law: cycles per layer, initiation interval, images a second, input bandwidth. Pure functions."""

from collections.abc import Iterable

from qnn.cell import LayerFolding

__all__ = ["initiation_interval_cycles", "megabytes_per_s", "throughput_images_per_s"]


def initiation_interval_cycles(layers: Iterable[LayerFolding]) -> int:
    """Cycles between two images in a full pipeline: those of the slowest layer."""
    return max(layer.cycles for layer in layers)


def throughput_images_per_s(interval_cycles: float, clock_period_ns: float) -> float:
    """Images a second at one image an interval."""
    return 1e9 / (interval_cycles * clock_period_ns)


def megabytes_per_s(images_per_s: float, bytes_per_image: int) -> float:
    """Input bandwidth in MB/s (10^6 bytes), the paper's "DRAM In"."""
    return images_per_s * bytes_per_image / 1e6

"""Quantised neural networks on FPGAs with FINN: from a Brevitas training to a measured accelerator."""

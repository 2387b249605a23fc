"""Comparing what two releases of FINN give: environments, measurements, verdicts, reports."""

"""Every error that the library raises on purpose.

QnnError
├── CellError            a cell, bit width, folding or data set that does not exist or is out of range
├── DataError            a data set that cannot be had
│   └── ChecksumError    a file whose content is not the published one
├── CheckpointError      a checkpoint or training state that is corrupt, foreign or of other settings
├── HistoryError         a table of training histories that is missing or damaged, a run that cannot enter it
├── ParametersError      numbers that no quantised network can have (NaN, a scale that is not positive)
├── ModelError           a model from outside, or samples for it, that cannot be taken
├── TrainingError        a training that cannot go on (NaN loss, settings that contradict the state)
├── DataflowError        FINN refused or failed at a step
├── FinnUnavailable      a release or checkout of FINN that does not exist or cannot be installed here
├── GateError            a comparison of two FINNs that cannot be made; a baseline or list of changes that is damaged
├── DesignError          hardware files that do not make a whole design
├── ToolError            an external program
│   ├── ToolMissing      is not installed; the message says where it was looked for and what mends it
│   ├── ToolFailed       exited with an error; the message ends with the last lines of its log
│   ├── ToolTimeout      did not end within its time limit and was killed
│   └── ToolGap          refuses one of FINN's files, and no known edit answers
├── SimulationError      the simulated accelerator misbehaved
│   └── DeadlockError    no output for longer than the design can take
├── EquivalenceError     two hops differ where they have to be equal
└── StoreError           the artifact store cannot be read or written

A message names what is wrong, where, and what to do about it.
"""

__all__ = [
    "CellError",
    "CheckpointError",
    "ChecksumError",
    "DataError",
    "DataflowError",
    "DeadlockError",
    "DesignError",
    "EquivalenceError",
    "FinnUnavailable",
    "GateError",
    "HistoryError",
    "ModelError",
    "ParametersError",
    "QnnError",
    "SimulationError",
    "StoreError",
    "ToolError",
    "ToolFailed",
    "ToolGap",
    "ToolMissing",
    "ToolTimeout",
    "TrainingError",
]


class QnnError(Exception):
    """Base of every error below: one sentence for a person, never a stack of causes."""


class CellError(QnnError, ValueError):
    """A cell, bit width, folding or data set that does not exist or is out of range."""


class DataError(QnnError):
    """A data set that cannot be had."""


class ChecksumError(DataError):
    """A data file whose content is not the published one."""


class CheckpointError(QnnError):
    """A checkpoint or training state that is corrupt, foreign or of other settings."""


class HistoryError(QnnError):
    """A table of training histories that is missing or damaged, or a run that cannot enter it."""


class ParametersError(QnnError, ValueError):
    """Numbers that no quantised network can have: NaN, a scale that is not positive, arrays that do not fit."""


class ModelError(QnnError, ValueError):
    """A model from outside, samples for it, or what was said of its input, that cannot be taken."""


class TrainingError(QnnError):
    """A training that cannot go on."""


class DataflowError(QnnError):
    """FINN refused or failed at a step."""


class FinnUnavailable(QnnError):
    """A release or checkout of FINN that does not exist or cannot be installed here."""


class GateError(QnnError):
    """Two FINNs cannot be compared, or a file that the comparison needs is damaged."""


class DesignError(QnnError):
    """Hardware files that do not make a whole design."""


class ToolError(QnnError):
    """An external program did not do its work."""


class ToolMissing(ToolError):
    """An external program is not installed."""


class ToolFailed(ToolError):
    """An external program exited with an error."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """Its exit status; negative for the signal that killed it, None where that is not known."""


class ToolTimeout(ToolError):
    """An external program did not end within its time limit and was killed."""


class ToolGap(ToolError):
    """An open tool refuses one of FINN's files, and no known edit answers."""


class SimulationError(QnnError):
    """The simulated accelerator misbehaved."""


class DeadlockError(SimulationError):
    """The simulated accelerator gave no output for longer than it can take."""


class EquivalenceError(QnnError):
    """Two hops differ where they have to be equal."""


class StoreError(QnnError):
    """The artifact store cannot be read or written."""

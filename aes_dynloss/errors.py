"""The errors that a user can mend: each says what was expected, what was found, where, and what to do."""


class AesDynlossError(Exception):
    """Root of every error that the command line answers with one message and exit code 2."""


class ConfigError(AesDynlossError, ValueError):
    """A configuration file, an override or a combination of options that cannot be run."""


class DataError(AesDynlossError, ValueError):
    """Essays, scores, splits or predictions that cannot be read or do not fit together."""


class ShapeError(AesDynlossError, ValueError):
    """Tensors whose shapes do not fit, where broadcasting would give a wrong number instead of an error."""


class CheckpointError(AesDynlossError, ValueError):
    """A checkpoint or model folder that is missing, damaged or made for something else."""


class TrainingError(AesDynlossError, ValueError):
    """A run that cannot go on, such as one whose loss is no longer a number."""

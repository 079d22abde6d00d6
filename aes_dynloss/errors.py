"""The errors that a user can mend: each says what was expected, what was found, where, and what to do."""


class AesDynlossError(Exception):
    """Root of every error that the command line answers with one message and exit code 2.

    Examples:
        >>> from aes_dynloss import ScoreRange
        >>> try:
        ...     ScoreRange(low=6, high=1)
        ... except AesDynlossError as error:
        ...     print(f"{type(error).__name__}: {error}")
        ConfigError: A score range needs low < high and step > 0, found 6 to 1.
    """


class ConfigError(AesDynlossError, ValueError):
    """A configuration file, an override or a combination of options that cannot be run.

    Examples:
        >>> from aes_dynloss.configfile import apply_overrides
        >>> apply_overrides({}, ["training.epochs"])
        Traceback (most recent call last):
        aes_dynloss.errors.ConfigError: Override 'training.epochs': expected key=value, such as training.epochs=3.
    """


class DataError(AesDynlossError, ValueError):
    """Essays, scores, splits or predictions that cannot be read or do not fit together.

    Examples:
        >>> from aes_dynloss import quadratic_weighted_kappa
        >>> quadratic_weighted_kappa([1, 2, 3], [1, 2])
        Traceback (most recent call last):
        aes_dynloss.errors.DataError: Columns of scores need one shape, found reference (3,), score (2,). Give each
        essay one value in each.
    """


class ShapeError(AesDynlossError, ValueError):
    """Tensors whose shapes do not fit, where broadcasting would give a wrong number instead of an error.

    Examples:
        >>> import torch
        >>> from aes_dynloss import Elements
        >>> ones = torch.ones(2)
        >>> Elements(ones[:, None], ones, torch.tensor([0, 0]), centre=ones, spread=ones)
        Traceback (most recent call last):
        aes_dynloss.errors.ShapeError: Elements.scores has shape (2, 1), expected (2,): one number an element.
        Squeeze a trailing dimension before building Elements.
    """


class CheckpointError(AesDynlossError, ValueError):
    """A checkpoint or model folder that is missing, damaged or made for something else.

    Examples:
        >>> from aes_dynloss.measures.calibration import RescalingLine
        >>> RescalingLine.from_dict({"slope": 2.0})
        Traceback (most recent call last):
        aes_dynloss.errors.CheckpointError: A stored rescaling line needs slope and intercept, found {'slope': 2.0}.
    """


class TrainingError(AesDynlossError, ValueError):
    """A run that cannot go on, such as one whose loss is no longer a number.

    Examples:
        >>> issubclass(TrainingError, AesDynlossError)
        True
    """


def first_line(error: Exception) -> str:
    """What an error says in its first line, for a sentence; its class where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

from __future__ import annotations

import pytest

from aes_dynloss import errors


@pytest.mark.parametrize("name", ["ConfigError", "DataError", "ShapeError", "CheckpointError", "TrainingError"])
def test_every_error_is_one_of_ours_and_a_value_error(name):
    kind = getattr(errors, name)
    assert issubclass(kind, errors.AesDynlossError)
    assert issubclass(kind, ValueError)
    assert not issubclass(errors.AesDynlossError, ValueError)

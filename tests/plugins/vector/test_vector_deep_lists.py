"""Lists as text that are nested deeper than JSON is read are bad cells."""

from __future__ import annotations

import pytest

from mmreg.errors import ValueLoadError
from mmreg_vector.reading import read_array


def test_a_list_of_20_000_levels_is_a_bad_cell() -> None:
    with pytest.raises(ValueLoadError, match="nor a list such as"):
        read_array("[" * 20_000 + "1" + "]" * 20_000)

"""A modality that says that it takes a file's bytes has to make the same of them as of the file."""

from pathlib import Path

import numpy as np
import pytest

from mmreg import Modality, Spec, registry
from mmreg.errors import ValueLoadError
from mmreg.testing import run_checks


class Bytes(Modality):
    """The first eight bytes of a file, or of bytes; of a misleading one something else for a path."""

    paths = takes_bytes = True
    stored = spec = Spec("C", (8,), "float32")
    more = 0.0

    def load(self, value):
        if not isinstance(value, Path | bytes) or (isinstance(value, Path) and not value.is_file()):
            raise ValueLoadError("no file")
        data = value if isinstance(value, bytes) else value.read_bytes()
        if len(data) < 8:
            raise ValueLoadError("too short")
        return np.frombuffer(data[:8], np.uint8).astype(np.float32) + self.more * isinstance(value, Path)


class Misleading(Bytes):
    """It looks at more than the bytes."""

    more = 1.0


@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("cls", [Bytes, Misleading])
def test_bytes_and_path_are_compared(cls, as_bytes, tmp_path):
    registry.register("modality", "eight")(cls)
    paths = [tmp_path / f"{number}.bin" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes(range(number, number + 9)))
    report = run_checks("modality/eight", values=[path.read_bytes() if as_bytes else path for path in paths])
    failed = {result.check: result.detail for result in report.results if result.outcome == "failed"}
    if cls is Bytes:
        assert failed == {}
    else:
        assert "should be loaded as the same array from a path and from bytes" in failed["load"]

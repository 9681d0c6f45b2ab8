"""The cluster files of the project, and what is said of a changed one."""

from pathlib import Path

import pytest

from kdsweep.cluster.load import load_cluster
from kdsweep.errors import SpecError

FOLDER = Path(__file__).parents[2] / "cluster"


def shipped(name: str) -> str:
    """The text of a file, by its name without suffix."""
    return (FOLDER / f"{name}.yaml").read_text()


def changed(name: str, old: str, new: str) -> str:
    """The text with one place changed, which has to be there."""
    text = shipped(name)
    assert old in text
    return text.replace(old, new, 1)


def refusal_of(folder: Path, text: str) -> str:
    """The message with which a text is refused; its file is ``/c.yaml`` there."""
    path = folder / "c.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_cluster(path)
    return str(caught.value).replace(str(folder), "")

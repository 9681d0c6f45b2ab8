"""The text lists in which image data sets name their images: one row per line, split by spaces."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kdsweep.errors import DataError


class Row(NamedTuple):
    """One line of a list.

    Attributes:
        where: File and line, for messages.
        fields: Its words; the last one keeps its spaces.
    """

    where: str
    fields: list[str]

    def number(self, column: int, *, low: int, high: int) -> int:
        """A whole number in a range.

        Raises:
            DataError: The field is none.
        """
        text = self.fields[column]
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise DataError(
                f"{self.where}: field {column + 1} is {text!r}, expected a whole number from {low} "
                f"to {high}. The list is damaged or foreign."
            )
        return int(text)


def read_rows(path: Path, *, num_fields: int, header: str = "") -> Iterator[Row]:
    """Rows of a list, empty lines left out.

    Args:
        path: The list.
        num_fields: Fields of each row.
        header: The first line, where the list must start with one.

    Raises:
        DataError: The list is missing, is no text, or has a row with fewer fields.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such list. Copy it to this place.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read this list: {error}. Copy it again.") from error
    if header:
        if not lines or lines[0].split() != header.split():
            found = repr(lines[0][:80]) if lines else "nothing"
            raise DataError(f"{path}: expected {header!r} in the first line, found {found}.")
        lines[0] = ""
    for number, line in enumerate(lines, 1):
        fields = line.strip().split(maxsplit=num_fields - 1)
        if not fields:
            continue
        if len(fields) < num_fields:
            raise DataError(
                f"{path}:{number}: {len(fields)} fields found, expected {num_fields}: {line!r}. "
                "The list is damaged or foreign."
            )
        yield Row(f"{path}:{number}", fields)


def root_with(root: Path, marker: str, *, within: str, dataset: str) -> Path:
    """The folder that holds a data set's own files: the root, or the folder it was unpacked to.

    Args:
        root: As the user gave it.
        marker: A file that the folder must hold.
        within: Name of the folder that the archive unpacks to.
        dataset: For the message.

    Raises:
        DataError: The file is in neither place.
    """
    for folder in (root, root / within):
        if (folder / marker).is_file():
            return folder
    found = "does not exist" if not root.is_dir() else f"has no file {marker!r}"
    raise DataError(
        f"{root}: this {dataset} root {found}. Set data.root to the folder that holds {marker!r}, "
        f"or to the one that holds {within!r}."
    )

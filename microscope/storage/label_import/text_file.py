"""Reads a text file, perhaps gzipped, piece by piece, so that memory stays bounded."""

from __future__ import annotations

import codecs
import gzip
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

from microscope.core.errors import LabelsUnreadable
from microscope.storage.label_import.values import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_GZIP_MAGIC = b"\x1f\x8b"
PIECE_BYTES = 1 << 20
MAX_LINE_CHARACTERS = 1 << 24
"""The most that one line may hold; the longest real ones are a few megabytes."""

UNSUSPICIOUS_BYTES = 1 << 26
MAX_RATIO = 200
"""Text packs to a tenth or so; what unpacks to so many times its size is made to harm."""


class TextFile:
    """An open file of text. A context manager makes it: see `opened`."""

    def __init__(self, path: Path, raw: IO[bytes], unpacked: IO[bytes]) -> None:
        self._path, self._raw, self._unpacked = path, raw, unpacked
        self._n_bytes = 0

    def pieces(self) -> Iterator[str]:
        """The text in order, without a byte order mark.

        Raises:
            LabelsUnreadable: the file is damaged, is not UTF-8, or unpacks to far too much.
        """
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        try:
            while data := self._read():
                yield decoder.decode(data)
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise unreadable(self._path, "it is not text in UTF-8") from error

    def _read(self) -> bytes:
        try:
            piece = self._unpacked.read(PIECE_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(self._path, f"it is damaged ({error})") from error
        self._n_bytes += len(piece)
        if self._n_bytes > max(UNSUSPICIOUS_BYTES, MAX_RATIO * self._raw.tell()):
            raise unreadable(self._path, "it unpacks to far more than any file of labels")
        return piece


def split_lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, without their ends.

    Raises:
        MalformedError: a line is far longer than any in a file of labels.
    """
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        if len(rest) > MAX_LINE_CHARACTERS:
            raise MalformedError(f"a line is longer than {MAX_LINE_CHARACTERS} characters")
        yield from whole
    if rest:
        yield rest


@contextmanager
def opened(path: Path) -> Iterator[TextFile]:
    """Open a file of text, gzipped or not.

    Raises:
        LabelsUnreadable: it cannot be opened.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error
    with raw:
        is_packed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        unpacked = gzip.GzipFile(fileobj=raw) if is_packed else raw
        yield TextFile(path, raw, cast("IO[bytes]", unpacked))


def unreadable(path: Path, why: str) -> LabelsUnreadable:
    """The one sentence for a file that cannot be used."""
    return LabelsUnreadable(
        f"The labels in {path} cannot be read: {why}. Choose a file or folder as Neuronpedia, "
        "SAEDashboard or circuit-tracer write them, or a table of numbers and labels."
    )

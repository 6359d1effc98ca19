"""What a token id stands for, as bytes: spaces kept, parts of characters included.

A tokenizer's own `decode` strips the space of a lone "▁the" and turns part of a character
into "�"; both would be wrong in a list of single tokens.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_MARK = "▁"


def _byte_of_character() -> dict[str, int]:
    """The byte behind each character of a byte-level vocabulary.

    Printable Latin-1 stands for itself; the other bytes, in order, for U+0100 and on
    (Radford et al. 2019, section 2.2, as their published vocabulary has it).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTES = _byte_of_character()


def _show_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(f"⟨{byte:02x}⟩" for byte in bad), error.end


codecs.register_error("microscope_show_bytes", _show_bytes)


def display_text(spelling: bytes) -> str:
    """Bytes as text; each byte that is no part of a whole character becomes like `⟨e2⟩`."""
    return spelling.decode("utf-8", errors="microscope_show_bytes")


class Spelling:
    """The bytes of every token of one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._added = {i: t.content for i, t in tokenizer.added_tokens_decoder.items()}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._is_byte_level = "ByteLevel" in str(getattr(backend, "decoder", ""))

    def bytes_of(self, token_id: int) -> bytes:
        """What the token adds to a text; a note such as `⟨id 7⟩` for an id of no token."""
        added = self._added.get(token_id)
        if added is not None:
            return added.encode()
        piece = self._piece(token_id)
        if piece is None:
            return f"⟨id {token_id}⟩".encode()
        return self._bytes_of_piece(piece)

    def _piece(self, token_id: int) -> str | None:
        if token_id >= len(self._tokenizer):  # a row that only pads the unembedding
            return None
        piece = self._tokenizer.convert_ids_to_tokens(token_id)
        return piece if isinstance(piece, str) else None

    def _bytes_of_piece(self, piece: str) -> bytes:
        if self._is_byte_level and all(character in _BYTES for character in piece):
            return bytes(_BYTES[character] for character in piece)
        lone_byte = _BYTE_TOKEN.fullmatch(piece)
        if lone_byte:
            return bytes([int(lone_byte[1], 16)])
        return piece.replace(_SPACE_MARK, " ").encode()

"""From a prompt to ids and from ids to text. Exactly one BOS where the model wants one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from microscope.core.errors import PromptRejected
from microscope.core.prompts import Token
from microscope.engine.spelling import Spelling, display_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from microscope.core.prompts import Prompt


class Tokeniser:
    """A tokenizer, and the start that its model expects of a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, wants_bos: bool) -> None:
        self._tokenizer = tokenizer
        self._spelling = Spelling(tokenizer)
        self._tokens: dict[int, Token] = {}
        self._prefix, self._marks_first_word = _prefix_of(tokenizer)
        if not self._prefix and wants_bos and tokenizer.bos_token_id is not None:
            self._prefix = (int(tokenizer.bos_token_id),)
        self.bos_id: int | None = self._prefix[0] if self._prefix else None
        self.special_ids = _special_ids(tokenizer) | frozenset(self._prefix)

    @property
    def has_chat_template(self) -> bool:
        """Whether a prompt can be put into a chat template."""
        return bool(self._tokenizer.chat_template)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt's text, not yet checked against the model's size.

        What the chat template writes is taken as it stands: it has the model's BOS in it
        where its chats begin with one.

        Raises:
            PromptRejected: empty, no valid Unicode, or a chat where there is no usable chat
                template.
        """
        if not prompt.text:
            raise PromptRejected("The prompt is empty. Type a few words for the model to read.")
        if _has_lone_surrogates(prompt.text):
            raise PromptRejected(
                "The prompt has characters that are not valid Unicode. Type it anew."
            )
        if prompt.is_chat:
            return self._encode_plain(self._chat_text(prompt.text))
        return self._with_one_prefix(self._encode_plain(prompt.text))

    def token(self, token_id: int) -> Token:
        """One token for display; see `Token`."""
        if token_id not in self._tokens:
            text = display_text(self._spelling.bytes_of(token_id))
            self._tokens[token_id] = Token(token_id, text, token_id in self.special_ids)
        return self._tokens[token_id]

    def text(self, ids: Sequence[int]) -> str:
        """Decode without special tokens; every space is kept, a broken character is `�`.

        Ids that begin with BOS are a whole text, so the space that some tokenizers put
        before its first word is left out.
        """
        spellings = (self._spelling.bytes_of(i) for i in ids if i not in self.special_ids)
        text = b"".join(spellings).decode("utf-8", errors="replace")
        is_whole = self._marks_first_word and self._prefix and tuple(ids[:1]) == self._prefix
        return text.removeprefix(" ") if is_whole else text

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        return _encode(self._tokenizer, text, add_special_tokens=False)

    def _with_one_prefix(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        n = len(self._prefix)
        while n and ids[:n] == self._prefix:  # typed by the user, once or more
            ids = ids[n:]
        return self._prefix + ids

    def _chat_text(self, text: str) -> str:
        if not self.has_chat_template:
            raise PromptRejected(
                "This model has no chat template. Switch chat off and write plain text."
            )
        turns = [{"role": "user", "content": text}]
        try:
            chat: Any = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise PromptRejected(
                f"The model's chat template cannot be used ({error}). Switch chat off."
            ) from error
        return str(chat)


def _has_lone_surrogates(text: str) -> bool:
    """Whether a text cannot be written as UTF-8, as bytes of a broken command line cannot."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _encode(
    tokenizer: PreTrainedTokenizerBase, text: str, *, add_special_tokens: bool
) -> tuple[int, ...]:
    ids: Iterable[int] = tokenizer.encode(text, add_special_tokens=add_special_tokens)
    return tuple(int(i) for i in ids)


def _prefix_of(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], bool]:
    """What the tokenizer itself puts before a text, and whether it marks the first word."""
    plain = _encode(tokenizer, "a", add_special_tokens=False)
    full = _encode(tokenizer, "a", add_special_tokens=True)
    start = next((n for n in range(len(full)) if full[n : n + len(plain)] == plain), 0)
    first = tokenizer.convert_ids_to_tokens(plain[0]) if plain else ""
    return full[:start], str(first).startswith("▁")


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | {int(i) for i in tokenizer.all_special_ids})

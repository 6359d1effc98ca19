"""Errors that the user can act on.

The text of each is one or two sentences that say what is wrong, where, and what to do; it is
shown as it stands, in the panel it concerns or on the command line, and never as a traceback.
"""

from __future__ import annotations

import re

_LONG_WORD = re.compile(r"\S{241,}")
_LONGEST = 1000


class UserError(Exception):
    """Something that the user can put right; `str(error)` is written for them.

    What is quoted from a file may be of any length and hold anything: it is shortened, and
    characters that a screen would obey instead of showing them become question marks.
    """

    def __init__(self, sentence: str) -> None:
        line = " ".join(sentence.splitlines())
        plain = "".join(c if c.isprintable() else "?" for c in line)
        short = _LONG_WORD.sub(lambda word: _shortened(word[0], 120), plain)
        super().__init__(_shortened(short, _LONGEST))


def _shortened(text: str, longest: int) -> str:
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


class ModelUnreadable(UserError):
    """A folder or hub id that does not hold a model we can open."""


class SaeUnreadable(UserError):
    """A file or folder that does not hold an SAE we can open."""


class SaeMismatch(UserError):
    """An SAE that was made for another model than the open one."""


class PromptRejected(UserError):
    """A prompt that is empty or longer than the model's context."""


class ClampRejected(UserError):
    """A clamp that names no open SAE, or no feature of it, or a value that is no number."""


class SamplerRejected(UserError):
    """A sampler setting outside its range."""


class NotReady(UserError):
    """A request that needs an open model when none is open."""


class GenerationStopped(UserError):
    """The logits are no longer finite, so there is no next token to choose."""


class DownloadStopped(UserError):
    """A download that cannot go on; what has been fetched is kept."""


class FileNotWritten(UserError):
    """A file that could not be written; what stood there before still stands."""


class InstallationBroken(UserError):
    """A part of the program itself is missing from where it was installed."""


class NoDisplay(UserError):
    """There is no screen to open a window on."""


class RunNotFinished(UserError):
    """A run that was waited for did not end."""


class StoreUnreadable(UserError):
    """A file of feature pages that is missing, damaged, foreign or from a newer version."""


class LabelsUnreadable(UserError):
    """A file that holds no labels, is damaged, or is about another SAE."""


class ProtocolError(Exception):
    """The other end of the pipe sent something that is not a frame of ours."""


class StreamCutOff(ProtocolError):
    """The other end of the pipe was gone before it had sent all of a frame."""

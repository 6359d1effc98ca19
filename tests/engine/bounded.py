"""What a refusal has to be: one short sentence, in bounded memory, and nothing run."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from microscope.core.errors import UserError

ROOM_BYTES = 256 << 20
LONGEST_SENTENCE = 400


@contextmanager
def memory_bounded(room_bytes=ROOM_BYTES):
    """Let the process's address space grow by no more than this; where the system can.

    Whatever is mapped, memory itself must not be filled beyond the usual room.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    peak_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = n_pages * os.sysconf("SC_PAGE_SIZE") + room_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kilobytes
    assert grown << 10 <= ROOM_BYTES


def refusal(root, use, room_bytes=ROOM_BYTES):
    """The sentence with which `use()` is refused; it names a path below the folder `root`."""
    with memory_bounded(room_bytes), pytest.raises(UserError) as caught:
        use()
    sentence = str(caught.value)
    assert str(root) in sentence
    assert len(sentence.replace(str(root), "")) <= LONGEST_SENTENCE, sentence
    assert sentence.isprintable(), "it should be one line without control characters"
    assert "Traceback" not in sentence
    assert sentence.endswith((".", ").")), sentence
    assert "not enough memory" not in sentence, "it was begun to be read"
    return sentence

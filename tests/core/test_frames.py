import io
import struct

import numpy as np
import pytest

from microscope.core.checkup import Finding, Published
from microscope.core.errors import ProtocolError
from microscope.core.features import Clamp, FeatureId
from microscope.core.frames import MAX_FRAME_BYTES, read_event, read_request, write_frame
from microscope.core.messages import CheckedUp, CheckUp, Generate, LensRead, RunFinished
from microscope.core.prompts import Prompt, Sampler

CLAMP = Clamp(FeatureId("blocks.1.hook_resid_post", 7), 2.5, "add")
LENS = LensRead(
    run_id=3,
    site=1,
    token=2,
    ids=np.arange(12, dtype=np.int32).reshape(2, 3, 2),
    p=np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 3, 2),
    logsumexp=np.ones((2, 3), np.float32),
    entropy=np.zeros((2, 3), np.float32),
    texts={0: " the", 11: "\n"},
)


def frame_of(message) -> bytes:
    stream = io.BytesIO()
    write_frame(stream, message)
    return stream.getvalue()


def test_a_request_comes_out_as_it_went_in():
    request = Generate(
        run_id=9, prompt=Prompt("hé\n"), clamps=(CLAMP,), sampler=Sampler(top_k=4), seed=-1
    )
    assert read_request(io.BytesIO(frame_of(request))) == request


def test_a_check_up_and_its_findings_travel_with_numbers_that_are_none():
    request = CheckUp(run_id=2, published={"a": Published(0.8), "b": Published(l0=70)})
    assert read_request(io.BytesIO(frame_of(request))) == request
    finding = Finding("a", False, float("nan"), 0.5, "Damaged.")
    event = read_event(io.BytesIO(frame_of(CheckedUp(run_id=2, findings=(finding,)))))
    assert np.isnan(event.findings[0].value)
    assert event.findings[0].sentence == "Damaged."


def test_arrays_come_out_bit_for_bit():
    event = read_event(io.BytesIO(frame_of(LENS)))
    assert isinstance(event, LensRead)
    for name in ("ids", "p", "logsumexp", "entropy"):
        sent, received = getattr(LENS, name), getattr(event, name)
        assert sent.dtype == received.dtype
        np.testing.assert_array_equal(sent, received)
    assert event.texts == LENS.texts


def test_an_array_that_is_not_contiguous_travels_too():
    turned = LensRead(
        run_id=1,
        site=0,
        token=0,
        ids=LENS.ids.transpose(1, 0, 2),
        p=LENS.p.transpose(1, 0, 2),
        logsumexp=LENS.logsumexp.T,
        entropy=LENS.entropy.T,
        texts={},
    )
    event = read_event(io.BytesIO(frame_of(turned)))
    assert isinstance(event, LensRead)
    np.testing.assert_array_equal(event.ids, LENS.ids.transpose(1, 0, 2))


def test_frames_follow_one_another_and_then_end():
    stream = io.BytesIO(
        b"".join(frame_of(RunFinished(run_id=n)) for n in range(3)),
    )
    assert [read_event(stream).run_id for _ in range(3)] == [0, 1, 2]
    assert read_event(stream) is None


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\x01\x00", "inside a frame's length"),
        (struct.pack("<I", 10) + b"abc", "after 3 of"),
        (struct.pack("<I", MAX_FRAME_BYTES + 1), "the limit is"),
        (struct.pack("<I", 3) + b"\xc1\xc1\xc1", "not a message"),
        (struct.pack("<I", 1) + b"\x80", "not a message"),
    ],
)
def test_nonsense_is_refused_with_a_reason(data, complaint):
    with pytest.raises(ProtocolError, match=complaint):
        read_event(io.BytesIO(data))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa3<i4", b"\xa3|O8"),  # a dtype that would hold pointers
        (b"\xa3<i4", b"\xa3<f8"),  # a shape that asks for more bytes than there are
    ],
)
def test_an_array_that_lies_about_itself_is_refused(old, new):
    data = frame_of(LENS)
    assert old in data
    with pytest.raises(ProtocolError, match="not an array"):
        read_event(io.BytesIO(data.replace(old, new, 1)))


def test_a_request_is_not_an_event():
    with pytest.raises(ProtocolError):
        read_event(io.BytesIO(frame_of(Generate(run_id=1, prompt=Prompt("x")))))

"""Requests and events as bytes: a 4-byte little-endian length, then msgpack.

A numpy array travels as [dtype, shape, bytes]. Nothing is pickled, and what does not fit
the declared types is refused.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from microscope.core.errors import ProtocolError, StreamCutOff
from microscope.core.messages import AnyEvent, AnyRequest

if TYPE_CHECKING:
    from typing import BinaryIO

Message = TypeVar("Message")

MAX_FRAME_BYTES = 1 << 28
_LENGTH = struct.Struct("<I")
_DTYPES: dict[str, np.dtype[Any]] = {
    "<f4": np.dtype("<f4"),
    "<i4": np.dtype("<i4"),
    "<f8": np.dtype("<f8"),
}


def _array_to_plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        return [array.dtype.str, list(array.shape), array.reshape(-1).view(np.uint8).data]
    raise NotImplementedError(f"{type(value)} does not cross the pipe")


def _plain_to_array(kind: type[Any], value: Any) -> object:
    if kind is not np.ndarray:
        raise NotImplementedError(f"{kind} does not cross the pipe")
    try:
        dtype_name, shape, data = value
        dtype = _DTYPES[dtype_name]
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"shape {shape}")
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(data)} bytes for {shape} of {dtype_name}")
    except (TypeError, ValueError, KeyError) as error:
        raise msgspec.ValidationError(f"not an array: {error}") from error
    return np.frombuffer(data, dtype=dtype).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_array_to_plain)
_requests: msgspec.msgpack.Decoder[AnyRequest] = msgspec.msgpack.Decoder(AnyRequest)
_events: msgspec.msgpack.Decoder[AnyEvent] = msgspec.msgpack.Decoder(
    AnyEvent, dec_hook=_plain_to_array
)


def write_frame(stream: BinaryIO, message: AnyRequest | AnyEvent) -> None:
    """Write one message and flush; raises `OSError` when the other end is gone."""
    body = _encoder.encode(message)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def read_request(stream: BinaryIO) -> AnyRequest | None:
    """The next request, or None at the end of the stream. Raises `ProtocolError`."""
    body = _read_body(stream)
    return None if body is None else _decode(_requests, body)


def read_event(stream: BinaryIO) -> AnyEvent | None:
    """The next event, or None at the end of the stream. Raises `ProtocolError`."""
    body = _read_body(stream)
    return None if body is None else _decode(_events, body)


def _read_body(stream: BinaryIO) -> bytes | None:
    head = _read_exactly(stream, _LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise StreamCutOff("the stream ended inside a frame's length")
    (size,) = _LENGTH.unpack(head)
    if size > MAX_FRAME_BYTES:
        raise ProtocolError(
            f"a frame of {size} bytes is announced; the limit is {MAX_FRAME_BYTES}"
        )
    body = _read_exactly(stream, size)
    if len(body) < size:
        raise StreamCutOff(f"the stream ended after {len(body)} of a frame's {size} bytes")
    return body


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    chunks = []
    while size:
        chunk = stream.read(size)
        if not chunk:
            break
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _decode(decoder: msgspec.msgpack.Decoder[Message], body: bytes) -> Message:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a frame is not a message of ours: {error}") from error

"""Running a network from the middle: what its first blocks gave is put in, not computed again.

General over the network's own modules: for one call the skipped blocks' `forward` is replaced,
so the network still makes its own masks and positions, and hooks at the last skipped block's
output (an edit, a recorder) still run.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from microscope.engine.architectures.anatomy import Anatomy


@dataclass
class KeptOutput:
    """What the last of the first `n_blocks` blocks gave, before any edit, call after call."""

    n_blocks: int
    pieces: list[Tensor] = field(default_factory=list)  # each (n_rows, n_new, d_model)
    rest: tuple[Any, ...] | None = None
    """What the block's output holds besides; None where it is a tensor and no tuple."""

    def joined(self) -> Tensor:
        """All calls as one `(n_rows, n_tokens, d_model)`."""
        if len(self.pieces) > 1:
            self.pieces = [torch.cat(self.pieces, dim=1)]
        return self.pieces[0]

    def take(self, output: Any) -> None:
        """Keep one call's output."""
        is_tuple = isinstance(output, tuple)
        self.pieces.append(output[0] if is_tuple else output)
        self.rest = output[1:] if is_tuple else None

    def crop(self, n_tokens: int) -> None:
        """Forget tokens from the end until `n_tokens` are left."""
        if self.pieces:
            self.pieces = [self.joined()[:, :n_tokens]]

    def as_output(self, value: Tensor) -> Any:
        """A tensor as the block would have returned it."""
        return value if self.rest is None else (value, *self.rest)


@contextmanager
def output_kept(anatomy: Anatomy, kept: KeptOutput) -> Iterator[None]:
    """Add to `kept` what its block gives while the `with` block runs the network."""
    if kept.n_blocks == 0:
        yield
        return
    block = anatomy.blocks[kept.n_blocks - 1]
    original: Callable[..., Any] = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        kept.take(output)
        return output

    with _replaced(block, forward):
        yield


@contextmanager
def blocks_skipped(anatomy: Anatomy, kept: KeptOutput, n_tokens: int) -> Iterator[None]:
    """Run the network as if the first blocks had just given what is kept of `n_tokens`."""
    value = kept.joined()[:, :n_tokens] if kept.n_blocks else None

    def pass_on(*args: Any, **kwargs: Any) -> Any:
        return kept.as_output(args[0] if args else kwargs["hidden_states"])

    def put_in(*_args: Any, **_kwargs: Any) -> Any:
        return kept.as_output(value)  # type: ignore[arg-type]

    with ExitStack() as stack:
        for block in anatomy.blocks[: max(0, kept.n_blocks - 1)]:
            stack.enter_context(_replaced(block, pass_on))
        if kept.n_blocks:
            stack.enter_context(_replaced(anatomy.blocks[kept.n_blocks - 1], put_in))
        yield


@contextmanager
def _replaced(block: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give one module another `forward` for a while."""
    before = block.__dict__.get("forward")
    block.forward = forward
    try:
        yield
    finally:
        if before is None:
            del block.forward
        else:
            block.forward = before

"""Names of places in a network, in TransformerLens grammar, such as `blocks.6.hook_resid_post`.

Knows the grammar only. Where a site is in a given model is the engine's business.
"""

from __future__ import annotations

import re

import msgspec

EMBED = "embed"
"""The residual stream that enters the first block, positions included."""

_GRAMMAR = re.compile(r"blocks\.(\d{1,5})\.([a-z0-9_.]+)")


class Site(msgspec.Struct, frozen=True, order=True):
    """A place in the network: a hook of one block."""

    layer: int
    hook: str

    @property
    def name(self) -> str:
        """The site in TransformerLens grammar."""
        return f"blocks.{self.layer}.{self.hook}"

    @classmethod
    def parse(cls, name: str) -> Site:
        """Read `blocks.LAYER.HOOK`.

        Raises:
            ValueError: the name is not of that form.
        """
        match = _GRAMMAR.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not a site name such as 'blocks.6.hook_resid_post'.")
        return cls(int(match[1]), match[2])


def resid_post(layer: int) -> str:
    """The name of the residual stream after a block."""
    return Site(layer, "hook_resid_post").name


def lens_sites(n_layers: int) -> tuple[str, ...]:
    """The sites that the lens reads, in order: the embedding, then after each block."""
    return (EMBED, *(resid_post(layer) for layer in range(n_layers)))

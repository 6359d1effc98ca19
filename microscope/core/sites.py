"""Names of places in a network, in TransformerLens grammar, such as `blocks.6.hook_resid_post`.

A place without a name of its own is called after its module, as in
`module:model.layers.6.self_attn.o_proj.input`. Knows the grammar only. Where a site is in a
given model is the engine's business.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

EMBED = "embed"
"""The residual stream that enters the first block, positions included."""

TOKEN_EMBED = "hook_embed"
"""What the token embedding gives, before positions are added."""

End = Literal["input", "output"]

_GRAMMAR = re.compile(r"blocks\.(\d{1,5})\.([a-z0-9_.]{1,64})", re.ASCII)
_PATH = re.compile(r"\w{1,64}(?:\.\w{1,64}){0,15}", re.ASCII)
_PREFIX = "module:"
_SHOWN = 80
"""Letters of a wrong name that an error quotes; such names come out of files."""


class Site(msgspec.Struct, frozen=True, order=True):
    """A place in the network: a hook of one block, or one before all blocks (layer -1)."""

    layer: int
    hook: str

    @property
    def name(self) -> str:
        """The site in TransformerLens grammar."""
        return self.hook if self.layer < 0 else f"blocks.{self.layer}.{self.hook}"

    @classmethod
    def parse(cls, name: str) -> Site:
        """Read `blocks.LAYER.HOOK`, `hook_embed` or `embed`, which enters block 0.

        Raises:
            ValueError: the name is not of that form.
        """
        if name == EMBED:
            return cls(0, "hook_resid_pre")
        if name == TOKEN_EMBED:
            return cls(-1, TOKEN_EMBED)
        match = _GRAMMAR.fullmatch(name)
        if match is None:
            raise ValueError(
                f"{name[:_SHOWN]!r} is not a site name such as 'blocks.6.hook_resid_post'."
            )
        return cls(int(match[1]), match[2])


class ModuleSite(msgspec.Struct, frozen=True, order=True):
    """What enters or leaves a module, named by its path in the network."""

    path: str
    end: End

    @property
    def name(self) -> str:
        """The site as `module:PATH.input` or `module:PATH.output`."""
        return f"{_PREFIX}{self.path}.{self.end}"

    @classmethod
    def parse(cls, name: str) -> ModuleSite:
        """Read `[module:]PATH.input`, `[module:]PATH.output` or a bare path (its output).

        Raises:
            ValueError: the name is not of that form.
        """
        path = name.removeprefix(_PREFIX)
        trunk, _, last = path.rpartition(".")
        if not _PATH.fullmatch(path) or (last in ("input", "output") and not trunk):
            raise ValueError(
                f"{name[:_SHOWN]!r} is not a site name such as 'blocks.6.hook_resid_post', nor "
                "the path of a module such as 'module:model.layers.6.mlp.output'."
            )
        if last == "input":
            return cls(trunk, "input")
        return cls(trunk if last == "output" else path, "output")


AnySite = Site | ModuleSite


def parse_site(name: str) -> AnySite:
    """Read the name of any site.

    Raises:
        ValueError: it is neither a hook's name nor the path of a module.
    """
    if name in (EMBED, TOKEN_EMBED) or name.startswith("blocks."):
        return Site.parse(name)
    return ModuleSite.parse(name)


def resid_post(layer: int) -> str:
    """The name of the residual stream after a block."""
    return Site(layer, "hook_resid_post").name


def lens_sites(n_layers: int) -> tuple[str, ...]:
    """The sites that the lens reads, in order: the embedding, then after each block."""
    return (EMBED, *(resid_post(layer) for layer in range(n_layers)))

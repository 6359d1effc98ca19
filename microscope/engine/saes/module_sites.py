"""Which site the input or the output of a module is, from the module's Hugging Face path.

Only where the answer is the same in every family of models that has such a path; other paths
become `module:PATH.input` or `module:PATH.output`, which name the place as exactly.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from microscope.core.sites import TOKEN_EMBED, ModuleSite, Site

if TYPE_CHECKING:
    from microscope.core.sites import End

_EMBEDDING = re.compile(r"(?:\w+\.)*(?:embed_tokens|embed_in|wte)", re.ASCII)
_BLOCK = re.compile(r"(?:\w+\.)*(layers|h)\.(\d{1,5})((?:\.\w+)*)", re.ASCII)
_HOOKS: dict[tuple[str, End], str] = {
    ("", "input"): "hook_resid_pre",
    ("", "output"): "hook_resid_post",
    (".mlp", "input"): "mlp.hook_in",
    (".mlp", "output"): "mlp.hook_out",
    (".mlp.act", "output"): "mlp.hook_post",
    (".mlp.c_proj", "input"): "mlp.hook_post",
    (".mlp.dense_4h_to_h", "input"): "mlp.hook_post",
    (".mlp.down_proj", "input"): "mlp.hook_post",
    (".attention", "output"): "hook_attn_out",
    (".attn.c_proj", "input"): "attn.hook_z",
    (".attention.dense", "input"): "attn.hook_z",
    (".self_attn.o_proj", "input"): "attn.hook_z",
    (".ln_2", "input"): "hook_resid_mid",
    (".pre_feedforward_layernorm", "input"): "hook_resid_mid",
    (".pre_feedforward_layernorm", "output"): "mlp.hook_in",
    (".post_feedforward_layernorm", "output"): "hook_mlp_out",
}
_GPT2_ATTENTION = ("h", ".attn", "output")  # elsewhere a norm may follow a module so named


def site_at(path: str, end: End) -> str:
    """The name of the site at one end of a module.

    A path may be whole (`model.layers.3.mlp`) or begin inside the base model
    (`layers.3.mlp`).

    Raises:
        ValueError: the text is no path of a module.
    """
    unnamed = ModuleSite.parse(f"{path}.{end}").name
    if _EMBEDDING.fullmatch(path) and end == "output":
        return TOKEN_EMBED
    block = None if "vision" in path else _BLOCK.fullmatch(path)
    hook = None if block is None else _hook(block[1], block[3], end)
    if block is None or hook is None:
        return unnamed
    return Site(int(block[2]), hook).name


def site_of_point(point: str) -> str:
    """The name of the site of a module's path followed by `.input` or `.output`.

    Raises:
        ValueError: the text is not of that form.
    """
    path, _, end = point.rpartition(".")
    if end == "input":
        return site_at(path, "input")
    if end == "output":
        return site_at(path, "output")
    raise ValueError(f"{point!r} does not end in '.input' or '.output'.")


def is_known_path(path: str) -> bool:
    """Whether a path names a block, something in one, or an embedding."""
    return bool(_BLOCK.fullmatch(path) or _EMBEDDING.fullmatch(path))


def _hook(blocks: str, inside: str, end: End) -> str | None:
    if (blocks, inside, end) == _GPT2_ATTENTION:
        return "hook_attn_out"
    return _HOOKS.get((inside, end))

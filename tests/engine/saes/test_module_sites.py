import pytest

from microscope.core.sites import parse_site
from microscope.engine.saes.module_sites import is_known_path, site_at, site_of_point

NAMED = [
    ("transformer.h.3", "input", "blocks.3.hook_resid_pre"),
    ("h.3", "output", "blocks.3.hook_resid_post"),
    ("gpt_neox.layers.3", "output", "blocks.3.hook_resid_post"),
    ("model.layers.3", "output", "blocks.3.hook_resid_post"),
    ("model.language_model.layers.3", "output", "blocks.3.hook_resid_post"),
    ("model.decoder.layers.3", "output", "blocks.3.hook_resid_post"),
    ("layers.3.mlp", "input", "blocks.3.mlp.hook_in"),
    ("layers.3.mlp", "output", "blocks.3.mlp.hook_out"),
    ("h.3.mlp.act", "output", "blocks.3.mlp.hook_post"),
    ("h.3.mlp.c_proj", "input", "blocks.3.mlp.hook_post"),
    ("layers.3.mlp.dense_4h_to_h", "input", "blocks.3.mlp.hook_post"),
    ("layers.3.mlp.down_proj", "input", "blocks.3.mlp.hook_post"),
    ("h.3.attn", "output", "blocks.3.hook_attn_out"),
    ("layers.3.attention", "output", "blocks.3.hook_attn_out"),
    ("h.3.attn.c_proj", "input", "blocks.3.attn.hook_z"),
    ("layers.3.attention.dense", "input", "blocks.3.attn.hook_z"),
    ("layers.3.self_attn.o_proj", "input", "blocks.3.attn.hook_z"),
    ("h.3.ln_2", "input", "blocks.3.hook_resid_mid"),
    ("layers.3.pre_feedforward_layernorm", "input", "blocks.3.hook_resid_mid"),
    ("layers.3.pre_feedforward_layernorm", "output", "blocks.3.mlp.hook_in"),
    ("layers.3.post_feedforward_layernorm", "output", "blocks.3.hook_mlp_out"),
    ("model.embed_tokens", "output", "hook_embed"),
    ("gpt_neox.embed_in", "output", "hook_embed"),
    ("wte", "output", "hook_embed"),
]


@pytest.mark.parametrize(("path", "end", "site"), NAMED)
def test_a_place_with_a_hooks_name_is_called_by_it(path, end, site):
    assert site_at(path, end) == site
    assert site_of_point(f"{path}.{end}") == site
    assert is_known_path(path)


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("layers.3.self_attn", "output"),  # a norm may follow before the stream
        ("layers.3.attn", "output"),
        ("layers.3.mlp.act_fn", "output"),  # half of a gated product
        ("layers.3.post_attention_layernorm", "output"),  # means two things
        ("model.embed_tokens", "input"),
        ("vision_tower.encoder.layers.3", "output"),
        ("lm_head", "input"),
    ],
)
def test_other_places_are_called_after_their_module(path, end):
    name = site_at(path, end)
    assert name == f"module:{path}.{end}"
    assert parse_site(name).name == name


@pytest.mark.parametrize("path", ["", "../x", "layers.3 ", "a..b", "a/b", "läyers.3", ".mlp"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ValueError, match="not a site name"):
        site_at(path, "output")


@pytest.mark.parametrize("point", ["layers.3", "input", "layers.3.inputs", ""])
def test_a_point_has_to_name_its_end(point):
    with pytest.raises(ValueError, match=r"does not end in|not a site name"):
        site_of_point(point)

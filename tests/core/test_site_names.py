import pytest

from microscope.core.sites import (
    EMBED,
    ModuleSite,
    Site,
    lens_sites,
    parse_site,
    resid_post,
)


def test_a_site_name_comes_out_as_it_went_in():
    assert Site.parse("blocks.6.hook_resid_post").name == "blocks.6.hook_resid_post"
    assert Site.parse("blocks.11.attn.hook_z") == Site(11, "attn.hook_z")


@pytest.mark.parametrize("name", ["", "blocks.x.hook", "blocks.-1.hook", "a.1.hook"])
def test_what_is_no_site_is_refused(name):
    with pytest.raises(ValueError, match="not a site name"):
        Site.parse(name)


def test_the_lens_reads_the_embedding_and_then_every_block():
    assert lens_sites(2) == (EMBED, resid_post(0), resid_post(1))


def test_what_comes_before_the_blocks_has_names_of_its_own():
    assert Site.parse("embed") == Site(0, "hook_resid_pre")
    assert Site.parse("hook_embed").name == "hook_embed"
    assert parse_site("hook_embed") < Site(0, "hook_resid_pre")


@pytest.mark.parametrize(
    ("name", "path", "end"),
    [
        ("module:model.layers.3.mlp.output", "model.layers.3.mlp", "output"),
        ("module:h.3.attn.c_proj.input", "h.3.attn.c_proj", "input"),
        ("model.layers.3.self_attn.o_proj.input", "model.layers.3.self_attn.o_proj", "input"),
        ("model.layers.3", "model.layers.3", "output"),
        ("embed_tokens", "embed_tokens", "output"),
    ],
)
def test_the_path_of_a_module_is_a_site_too(name, path, end):
    site = parse_site(name)
    assert site == ModuleSite(path, end)
    assert parse_site(site.name) == site
    assert site.name == f"module:{path}.{end}"


@pytest.mark.parametrize(
    "name",
    ["", "input", "module:", "module:output", "a b.output", "a..b", "../x", "a." * 40 + "b"],
)
def test_what_is_no_path_is_refused(name):
    with pytest.raises(ValueError, match="not a site name"):
        parse_site(name)

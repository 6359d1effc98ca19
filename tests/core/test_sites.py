import pytest

from microscope.core.sites import EMBED, Site, lens_sites, resid_post


def test_a_site_name_comes_out_as_it_went_in():
    assert Site.parse("blocks.6.hook_resid_post").name == "blocks.6.hook_resid_post"
    assert Site.parse("blocks.11.attn.hook_z") == Site(11, "attn.hook_z")


@pytest.mark.parametrize("name", ["", "embed", "blocks.x.hook", "blocks.-1.hook", "a.1.hook"])
def test_what_is_no_site_is_refused(name):
    with pytest.raises(ValueError, match="not a site name"):
        Site.parse(name)


def test_the_lens_reads_the_embedding_and_then_every_block():
    assert lens_sites(2) == (EMBED, resid_post(0), resid_post(1))

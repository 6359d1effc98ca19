import json
from types import SimpleNamespace

import pytest
from tiny_saes import save_saelens
from transformers import AutoModelForCausalLM, GPT2Config

from microscope.core.cards import ModelCard
from microscope.core.errors import SaeMismatch, SaeUnreadable
from microscope.engine.architectures import anatomy_of
from microscope.engine.saes.loading import find_saes, open_sae


def model(d_model=8, n_layers=2):
    config = GPT2Config(n_embd=d_model, n_layer=n_layers, n_head=2, n_inner=12, vocab_size=10)
    network = AutoModelForCausalLM.from_config(config)
    card = ModelCard(
        name="tiny",
        source="memory",
        architecture="none",
        n_layers=n_layers,
        d_model=d_model,
        n_vocabulary=10,
        context_length=16,
        n_parameters=0,
        dtype="float32",
        device="cpu",
    )
    return SimpleNamespace(card=card, network=network, anatomy=anatomy_of(network))


def test_an_sae_is_called_after_its_site_unless_named(tmp_path):
    save_saelens(tmp_path)
    assert open_sae(str(tmp_path), model()).card.name == "blocks.1.hook_resid_post"
    named = open_sae(str(tmp_path), model(), name="mine").card
    assert (named.name, named.site) == ("mine", "blocks.1.hook_resid_post")
    assert named.source == str(tmp_path)


def test_an_sae_opens_from_a_file_in_its_folder_or_the_folder_above(tmp_path):
    save_saelens(tmp_path / "a")
    for source in (tmp_path, tmp_path / "a" / "cfg.json"):
        assert open_sae(str(source), model()).card.source == str(tmp_path / "a")


def test_an_sae_of_another_width_names_both_widths(tmp_path):
    save_saelens(tmp_path)
    with pytest.raises(SaeMismatch, match=r"width 8; that of tiny has width 16"):
        open_sae(str(tmp_path), model(d_model=16))


def test_an_sae_of_a_block_that_is_not_there_names_both_numbers(tmp_path):
    save_saelens(tmp_path)
    with pytest.raises(SaeMismatch, match=r"reads block 1; tiny has 1 blocks, 0 to 0"):
        open_sae(str(tmp_path), model(n_layers=1))


@pytest.mark.parametrize(
    ("site", "width"),
    [
        ("blocks.1.mlp.hook_post", 12),
        ("blocks.0.attn.hook_z", 8),
        ("transformer.h.1.mlp.c_fc", 12),
        ("transformer.h.1.mlp.dropout", 99),  # only running the model would tell
    ],
)
def test_the_width_that_counts_is_that_of_the_site(tmp_path, site, width):
    save_saelens(tmp_path, d_in=width, metadata={"hook_name": site})
    assert open_sae(str(tmp_path), model()).card.d_in == width
    if width == 99:
        return
    save_saelens(tmp_path, d_in=width + 1, metadata={"hook_name": site})
    sentence = rf"of width {width + 1}; that of tiny has width {width}"
    with pytest.raises(SaeMismatch, match=sentence):
        open_sae(str(tmp_path), model())


def test_both_ends_of_a_transcoder_have_to_fit(tmp_path):
    save_saelens(
        tmp_path,
        architecture="standard",
        metadata={"hook_name": "blocks.1.hook_resid_mid"},
    )
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    cfg |= {"architecture": "transcoder", "hook_name_out": "blocks.1.mlp.hook_post"}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    with pytest.raises(SaeMismatch, match=r"mlp.hook_post of width 8; .* width 12"):
        open_sae(str(tmp_path), model())


@pytest.mark.parametrize(
    ("site", "sentence"),
    [
        ("blocks.1.hook_result", "not one that is known"),
        ("transformer.h.1.experts", "no module 'transformer.h.1.experts'"),
    ],
)
def test_a_site_that_the_model_lacks_is_told_with_the_sae(tmp_path, site, sentence):
    save_saelens(tmp_path, metadata={"hook_name": site})
    with pytest.raises(SaeMismatch, match=sentence) as refusal:
        open_sae(str(tmp_path), model())
    assert str(tmp_path) in str(refusal.value)


def test_a_misfit_is_told_before_any_weights_are_read(tmp_path):
    save_saelens(tmp_path)
    (tmp_path / "sae_weights.safetensors").write_bytes(b"")
    with pytest.raises(SaeMismatch):
        open_sae(str(tmp_path), model(d_model=16))


def test_saes_are_found_in_the_order_of_their_numbers(tmp_path):
    for name in ("layer_10", "layer_2", "deep/er/layer_0"):
        save_saelens(tmp_path / name)
    (tmp_path / "empty").mkdir()
    found = [str(tmp_path / name) for name in ("deep/er/layer_0", "layer_2", "layer_10")]
    assert find_saes(str(tmp_path)) == found


def test_a_folder_of_several_saes_asks_for_one(tmp_path):
    for name in ("a", "b"):
        save_saelens(tmp_path / name)
    with pytest.raises(SaeUnreadable, match="holds 2 SAEs"):
        open_sae(str(tmp_path), model())


def test_a_folder_without_an_sae_says_what_one_looks_like(tmp_path):
    assert find_saes(str(tmp_path)) == []
    with pytest.raises(SaeUnreadable, match=r"cfg\.json"):
        open_sae(str(tmp_path), model())
    with pytest.raises(SaeUnreadable, match="There is no folder"):
        open_sae(str(tmp_path / "nowhere"), model())


def test_a_link_that_turns_in_a_circle_does_not_matter(tmp_path):
    save_saelens(tmp_path / "a")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert find_saes(str(tmp_path)) == [str(tmp_path / "a")]

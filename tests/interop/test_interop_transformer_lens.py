"""Sites and lens: what stands at every hook in TransformerLens stands at our site of that name.

A tiny random model of each family is converted by TransformerLens' own code. Its norms are
folded into the weights behind them, since that is how its `hook_normalized` has no gain.
"""

import json
import tempfile
from pathlib import Path

import pytest
import torch
from peers import assert_same, peer
from tiny_models import open_tiny_model, tiny_model
from transformers import AutoModelForCausalLM

from microscope.engine.lenses import unembed
from microscope.engine.tracing import tapped

transformer_lens = peer("transformer_lens")
weights = peer("transformer_lens.pretrained.weight_conversions")
loading = peer("transformer_lens.loading_from_pretrained")

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

CONVERSIONS = {
    "gpt2": weights.convert_gpt2_weights,
    "gpt_neox": weights.convert_neox_weights,
    "llama": weights.convert_llama_weights,
    "gemma2": weights.convert_gemma_weights,
}
HOOKS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_in",
    "hook_mlp_out",
    "attn.hook_z",
    "mlp.hook_pre",
    "mlp.hook_post",
    "ln1.hook_normalized",
    "ln2.hook_normalized",
)
PARALLEL = ("gpt_neox",)
"""Families whose attention and MLP read the same, so that there is nothing between them."""
IDS = torch.tensor([[3, 17, 9, 120, 44, 5, 230, 61, 8, 8, 90, 12]])
LAYERS = range(3)


@pytest.fixture(params=CONVERSIONS, scope="module")
def family(request):
    return request.param


@pytest.fixture(scope="module")
def ours(family, tmp_path_factory):
    return open_tiny_model(family, tmp_path_factory)


@pytest.fixture(scope="module")
def theirs(family, tmp_path_factory):
    """The same model as a HookedTransformer."""
    folder = tiny_model(family, tmp_path_factory)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    settings = settings_of(family, folder, network.config)
    config = transformer_lens.HookedTransformerConfig.from_dict(
        settings | {"device": "cpu", "dtype": torch.float32}
    )
    model = transformer_lens.HookedTransformer(config)
    model.load_and_process_state_dict(
        CONVERSIONS[family](network, config),
        fold_ln=True,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    model.set_use_hook_mlp_in(True)
    return model.eval()


def settings_of(family, folder, config):
    """What their code reads from `config.json`; of Gemma 2 it knows published sizes only.

    The folder's own name is kept from it, since it concludes from names such as "llama".
    """
    if family == "gemma2":
        return gemma2_settings(config)
    content = json.loads((folder / "config.json").read_text())
    if family == "gpt2":  # published files still have the old name, which their code reads
        content["n_ctx"] = content["n_positions"]
    with tempfile.TemporaryDirectory(prefix="model") as copy:
        (Path(copy) / "config.json").write_text(json.dumps(content))
        return loading.convert_hf_model_config(copy) | {"tokenizer_name": None}


def gemma2_settings(config):
    return {
        "d_model": config.hidden_size,
        "d_head": config.head_dim,
        "n_heads": config.num_attention_heads,
        "n_key_value_heads": config.num_key_value_heads,
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": config.max_position_embeddings,
        "eps": config.rms_norm_eps,
        "d_vocab": config.vocab_size,
        "act_fn": config.hidden_activation,
        "normalization_type": "RMS",
        "rotary_base": 10000.0,
        "positional_embedding_type": "rotary",
        "use_attn_scale": True,
        "attn_scale": config.query_pre_attn_scalar**0.5,
        "window_size": config.sliding_window,
        "use_local_attn": True,
        "attn_types": [
            "local" if kind == "sliding_attention" else "global" for kind in config.layer_types
        ],
        "attn_scores_soft_cap": config.attn_logit_softcapping,
        "output_logits_soft_cap": config.final_logit_softcapping,
        "gated_mlp": True,
        "final_rms": True,
        "use_normalization_before_and_after": True,
        "original_architecture": "Gemma2ForCausalLM",
    }


@pytest.fixture(scope="module")
def cache(theirs):
    with torch.no_grad():
        return theirs.run_with_cache(IDS)[1]


@pytest.fixture(scope="module")
def taps(family, ours):
    names = [f"blocks.{layer}.{hook}" for layer in LAYERS for hook in hooks_of(family)]
    with tapped(ours.anatomy, [*names, "hook_embed"]) as taps:
        ours.step(IDS)
    return taps


def hooks_of(family):
    return [hook for hook in HOOKS if (hook, family) not in {("hook_resid_mid", "gpt_neox")}]


@pytest.mark.parametrize("hook", HOOKS)
def test_what_stands_at_a_hook_stands_at_our_site_of_that_name(family, hook, taps, cache):
    if hook == "hook_resid_mid" and family in PARALLEL:
        assert f"blocks.0.{hook}" not in cache
        return  # attention and MLP read the same, so there is nothing between them
    for layer in LAYERS:
        name = f"blocks.{layer}.{hook}"
        expected = cache[name].flatten(2)  # heads side by side
        assert_same(taps[name], expected)


def test_every_hook_of_theirs_that_is_a_place_for_an_sae_has_been_compared(cache, family):
    inside = {"attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_attn_scores"}
    inside |= {"attn.hook_pattern", "attn.hook_rot_q", "attn.hook_rot_k", "attn.hook_result"}
    inside |= {"mlp.hook_pre_linear"}
    theirs = {name.removeprefix("blocks.1.") for name in cache if name.startswith("blocks.1.")}
    scales = {name for name in theirs if name.endswith("hook_scale")}
    after = {name for name in theirs if name.startswith(("ln1_post", "ln2_post"))}
    assert theirs - inside - scales - after == set(hooks_of(family))


def test_the_token_embedding_is_theirs(taps, cache):
    assert_same(taps["hook_embed"], cache["hook_embed"])


def test_the_last_row_of_the_lens_is_their_output(ours, theirs, taps):
    with torch.no_grad():
        expected = theirs(IDS)[0].log_softmax(-1)
        row = unembed(ours.anatomy, taps[f"blocks.{LAYERS[-1]}.hook_resid_post"][0])
    assert_same(row.log_softmax(-1), expected)


def test_every_row_of_the_lens_is_their_final_norm_and_unembedding(ours, theirs, taps, cache):
    cap = theirs.cfg.output_logits_soft_cap
    for layer in LAYERS:
        name = f"blocks.{layer}.hook_resid_post"
        with torch.no_grad():
            expected = theirs.unembed(theirs.ln_final(cache[name]))[0]
            row = unembed(ours.anatomy, taps[name][0])
        if cap > 0:
            expected = cap * torch.tanh(expected / cap)
        assert_same(row.log_softmax(-1), expected.log_softmax(-1))

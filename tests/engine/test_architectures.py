import pytest
import torch
import transformers
from tiny_models import D_MODEL, FAMILIES, N_LAYERS, open_tiny_model, save_tiny_model

from microscope.core.errors import ModelUnreadable
from microscope.core.prompts import Prompt
from microscope.engine.architectures import ARCHITECTURES, anatomy_of
from microscope.engine.language_model import LanguageModel
from microscope.engine.tracing import tapped

_SHAPE = {
    "hidden_size": D_MODEL,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

KIN = {
    "opt": lambda: transformers.OPTConfig(
        hidden_size=D_MODEL,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        ffn_dim=48,
        max_position_embeddings=64,
        word_embed_proj_dim=16,
    ),
    "olmo": lambda: transformers.OlmoConfig(**_SHAPE),
    "olmo2": lambda: transformers.Olmo2Config(**_SHAPE),
    "olmo3": lambda: transformers.Olmo3Config(**_SHAPE, sliding_window=8),
    "cohere": lambda: transformers.CohereConfig(**_SHAPE, logit_scale=0.25),
    "granite": lambda: transformers.GraniteConfig(
        **_SHAPE, logits_scaling=3.0, residual_multiplier=0.5, embedding_multiplier=2.0
    ),
    "mixtral": lambda: transformers.MixtralConfig(**_SHAPE, num_local_experts=4),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(**_SHAPE, **_EXPERTS, head_dim=8),
    "smollm3": lambda: transformers.SmolLM3Config(**_SHAPE, pad_token_id=0),
    "gemma3": lambda: transformers.Gemma3Config(
        text_config={**_SHAPE, "head_dim": 8, "sliding_window": 8, "vocab_size": 400},
        vision_config=_VISION,
        mm_tokens_per_image=4,
    ),
}

STRANGERS = {
    "stablelm": lambda: transformers.StableLmConfig(**_SHAPE),
    "gptj": lambda: transformers.GPTJConfig(
        n_embd=D_MODEL, n_layer=N_LAYERS, n_head=4, n_positions=64, rotary_dim=4
    ),
    "bloom": lambda: transformers.BloomConfig(hidden_size=D_MODEL, n_layer=2, n_head=4),
    "falcon": lambda: transformers.FalconConfig(
        hidden_size=D_MODEL, num_hidden_layers=2, num_attention_heads=4
    ),
    "starcoder2": lambda: transformers.Starcoder2Config(**_SHAPE),
}


@pytest.fixture(scope="session")
def opened(tmp_path_factory):
    """Open any of the tables' models, each once."""
    cache = {}

    def open_(name):
        if name in FAMILIES:
            return open_tiny_model(name, tmp_path_factory)
        if name not in cache:
            config = (KIN | STRANGERS)[name]()
            folder = save_tiny_model(tmp_path_factory.mktemp(name), config)
            cache[name] = LanguageModel.open(str(folder), device="cpu")
        return cache[name]

    return open_


def outputs_of(model, module_paths):
    """Residual before and after block 1, and what its modules at the paths put out."""
    block, outputs, handles = model.anatomy.blocks[1], {}, []

    def keep(path):
        def hook(_module, _args, output):
            outputs[path] = output[0] if isinstance(output, tuple) else output

        return hook

    for path in module_paths:
        handles.append(block.get_submodule(path).register_forward_hook(keep(path)))
    sites = ("blocks.1.hook_resid_pre", "blocks.1.hook_resid_post")
    with tapped(model.anatomy, sites) as taps:
        model.step(torch.tensor([model.tokenise(Prompt("The lamp on the wall"))]))
    for handle in handles:
        handle.remove()
    return taps[sites[0]], taps[sites[1]], outputs


@pytest.mark.parametrize("name", [*FAMILIES, *KIN])
def test_a_family_with_a_file_is_read_by_it_and_is_exact(name, opened):
    model = opened(name)
    assert model.anatomy.family in ARCHITECTURES
    assert model.network.config.model_type in model.anatomy.family.model_types
    assert model.card.is_exact
    assert model.card.n_layers == N_LAYERS


@pytest.mark.parametrize("name", [n for n in (*FAMILIES, *KIN) if n != "granite"])
def test_a_block_adds_attn_out_and_mlp_out_to_the_stream(name, opened):
    model = opened(name)
    family = model.anatomy.family
    before, after, outputs = outputs_of(model, {family.attn_out, family.mlp_out})
    total = before + outputs[family.attn_out] + outputs[family.mlp_out].view_as(before)
    torch.testing.assert_close(after, total, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*FAMILIES, *KIN])
def test_every_name_of_a_family_is_a_module_of_each_block(name, opened):
    anatomy = opened(name).anatomy
    family = anatomy.family
    paths = [family.attention, family.attention_projection, family.mlp, family.resid_mid]
    paths += [family.attn_out, family.mlp_out]
    if name not in ("mixtral", "qwen3_moe"):  # their experts have no single down projection
        paths.append(family.mlp_projection)
    for block in anatomy.blocks:
        for path in filter(None, paths):
            assert block.get_submodule(path) is not None


def test_parallel_blocks_have_no_middle(opened):
    for name in ("gpt_neox", "phi", "cohere"):
        assert opened(name).anatomy.mid_norm(0) is None


def test_a_neox_that_is_not_parallel_has_a_middle(tmp_path_factory):
    config = transformers.GPTNeoXConfig(
        hidden_size=D_MODEL,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        use_parallel_residual=False,
        vocab_size=50,
    )
    network = transformers.AutoModelForCausalLM.from_config(config)
    anatomy = anatomy_of(network)
    assert anatomy.mid_norm(1) is anatomy.blocks[1].post_attention_layernorm


@pytest.mark.parametrize("name", STRANGERS)
def test_a_family_without_a_file_is_found_by_looking_and_is_exact(name, opened):
    model = opened(name)
    assert model.anatomy.family not in ARCHITECTURES
    assert model.card.architecture == type(model.network).__name__
    assert model.card.is_exact
    assert len(model.anatomy.blocks) == model.card.n_layers


@pytest.mark.parametrize("name", ["gemma2", "cohere", "granite"])
def test_logits_are_finished_as_the_family_does(name, opened):
    model = opened(name)
    x = torch.linspace(-20, 20, 9)
    expected = {"gemma2": 5 * torch.tanh(x / 5), "cohere": x * 0.25, "granite": x / 3}
    torch.testing.assert_close(model.anatomy.finish_logits(x), expected[name])
    torch.testing.assert_close(x, torch.linspace(-20, 20, 9))


def test_a_network_without_a_stack_of_blocks_is_refused():
    config = transformers.LlamaConfig(**_SHAPE, vocab_size=50)
    network = transformers.AutoModelForCausalLM.from_config(config)
    del network.model.norm
    with pytest.raises(ModelUnreadable, match="LlamaForCausalLM"):
        anatomy_of(network)

import pytest
import torch
from tiny_models import FAMILIES, open_tiny_model, save_tiny_model
from transformers import GPTNeoConfig

from microscope.core.errors import SaeMismatch
from microscope.core.prompts import Prompt
from microscope.core.sites import Site
from microscope.engine.language_model import LanguageModel
from microscope.engine.tracing import attach_edit, tapped

HOOKS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")


@pytest.fixture(params=FAMILIES)
def model(request, tmp_path_factory):
    return open_tiny_model(request.param, tmp_path_factory)


@pytest.fixture(params=["gpt2", "llama", "gemma2"])
def sequential(request, tmp_path_factory):
    """Models in which the MLP reads what attention wrote."""
    return open_tiny_model(request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def tuple_model(tmp_path_factory):
    """A model whose blocks return tuples."""
    config = GPTNeoConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=64,
    )
    folder = save_tiny_model(tmp_path_factory.mktemp("gpt-neo"), config, "gpt2")
    return LanguageModel.open(str(folder), device="cpu")


def ids_for(model):
    return torch.tensor([model.tokenise(Prompt("The lamp on the harbour wall"))])


def record(model, *sites, ids=None):
    with tapped(model.anatomy, sites) as taps:
        logits = model.step(ids_for(model) if ids is None else ids, keep=0)
    return taps, logits


def push(x):
    """An edit with no symmetry: every dimension moves by its own amount."""
    return x + torch.linspace(-1, 2, x.shape[-1])


def stretch(x):
    return x * torch.linspace(0.5, 1.5, x.shape[-1])


def n_hooks(network):
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in network.modules()
    )


def edited(model, edits, *sites):
    """What is recorded at sites, and the logits, under edits attached in the given order."""
    handles = [h for site, edit in edits for h in attach_edit(model.anatomy, site, edit)]
    try:
        return record(model, *sites)
    finally:
        for handle in handles:
            handle.remove()


def test_what_enters_a_block_is_what_left_the_one_before(model):
    names = [f"blocks.{layer}.{hook}" for layer in range(3) for hook in HOOKS[::2]]
    taps, _ = record(model, "embed", *names)
    assert torch.equal(taps["embed"], taps["blocks.0.hook_resid_pre"])
    for layer in (1, 2):
        before = taps[f"blocks.{layer - 1}.hook_resid_post"]
        assert torch.equal(taps[f"blocks.{layer}.hook_resid_pre"], before)


def test_residuals_are_the_hidden_states_of_transformers(model):
    ids = ids_for(model)
    with torch.no_grad():
        hidden = model.network(input_ids=ids, output_hidden_states=True).hidden_states
    names = ["embed", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    taps, _ = record(model, *names, "blocks.2.hook_resid_post")
    for name, expected in zip(names, hidden, strict=False):
        torch.testing.assert_close(taps[name], expected)
    normed = model.anatomy.final_norm(taps["blocks.2.hook_resid_post"])
    torch.testing.assert_close(normed, hidden[-1])


def by_hand(model, family, mid_edit):
    """Logits with an edit of resid_mid in block 1, from the modules and plain sums."""
    taps, _ = record(model, "blocks.1.hook_resid_pre")
    residual = taps["blocks.1.hook_resid_pre"]
    block = model.anatomy.blocks[1]
    with torch.no_grad():
        attention = attention_output(model, block, family)
        mid = mid_edit(residual + attention)
        norm = block.ln_2 if family == "gpt2" else block.post_attention_layernorm
        post = mid + block.mlp(norm(mid))
    return mid, post


def attention_output(model, block, family):
    """What attention of a block writes, taken from a plain run."""
    seen = []
    attention = block.attn if family == "gpt2" else block.self_attn
    handle = attention.register_forward_hook(lambda _m, _a, output: seen.append(output[0]))
    try:
        model.step(ids_for(model))
    finally:
        handle.remove()
    return seen[0]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("edit", [push, stretch])
def test_an_edit_of_resid_mid_reaches_both_the_mlp_and_the_skip(family, edit, tmp_path_factory):
    model = open_tiny_model(family, tmp_path_factory)
    mid, post = by_hand(model, family, edit)
    sites = ("blocks.1.hook_resid_mid", "blocks.1.hook_resid_post")
    taps, _ = edited(model, [(Site(1, "hook_resid_mid"), edit)], *sites)
    torch.testing.assert_close(taps[sites[0]], mid)
    torch.testing.assert_close(taps[sites[1]], post, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_resid_mid_lies_between_attention_and_mlp(family, tmp_path_factory):
    model = open_tiny_model(family, tmp_path_factory)
    mid, post = by_hand(model, family, lambda x: x)
    taps, _ = record(model, "blocks.1.hook_resid_mid", "blocks.1.hook_resid_post")
    torch.testing.assert_close(taps["blocks.1.hook_resid_mid"], mid)
    torch.testing.assert_close(taps["blocks.1.hook_resid_post"], post)


def test_an_edit_after_a_block_equals_the_same_edit_before_the_next(model):
    _, after = edited(model, [(Site(0, "hook_resid_post"), push)])
    _, before = edited(model, [(Site(1, "hook_resid_pre"), push)])
    _, plain = record(model)
    assert torch.equal(after, before)
    assert (after - plain).abs().max() > 0.01


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("recorder_first", [True, False])
def test_a_recorder_sees_the_edit_whichever_came_first(sequential, hook, recorder_first):
    site = Site(1, hook)
    plain, _ = record(sequential, site.name)
    handles = [] if recorder_first else attach_edit(sequential.anatomy, site, push)
    with tapped(sequential.anatomy, [site.name]) as taps:
        handles = handles or attach_edit(sequential.anatomy, site, push)
        sequential.step(ids_for(sequential))
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(taps[site.name], push(plain[site.name]))


def test_edits_of_one_block_apply_in_the_order_of_the_stream(sequential):
    mid, post = (Site(1, "hook_resid_mid"), push), (Site(1, "hook_resid_post"), stretch)
    after_mid, _ = edited(sequential, [mid], post[0].name)
    expected = stretch(after_mid[post[0].name])
    for order in ([mid, post], [post, mid]):
        taps, _ = edited(sequential, order, post[0].name)
        torch.testing.assert_close(taps[post[0].name], expected)


@pytest.mark.parametrize("hook", HOOKS)
def test_an_edit_by_nothing_is_bit_identical(sequential, hook):
    _, plain = record(sequential)
    _, same = edited(sequential, [(Site(1, hook), lambda x: x + torch.zeros_like(x))])
    assert torch.equal(plain, same)


def test_a_cached_step_is_edited_too(sequential):
    ids, site = ids_for(sequential), Site(1, "hook_resid_mid")
    handles = attach_edit(sequential.anatomy, site, push)
    cache = sequential.new_cache()
    sequential.step(ids[:, :-1], cache)
    stepped = sequential.step(ids[:, -1:], cache)
    whole = sequential.step(ids)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(stepped, whole, atol=1e-4, rtol=1e-4)


def test_the_network_is_as_it_was_found_even_after_an_error(sequential):
    _, plain = record(sequential)
    hooks_before = n_hooks(sequential.network)

    def fail(_x):
        raise RuntimeError("boom")

    for hook in HOOKS:
        edits = [(Site(1, hook), push), (Site(2, hook), fail)]
        with pytest.raises(RuntimeError, match="boom"):
            edited(sequential, edits, "embed", "blocks.1.hook_resid_mid")
    with pytest.raises(SaeMismatch), tapped(sequential.anatomy, ["embed", "blocks.9.x"]):
        pass
    assert n_hooks(sequential.network) == hooks_before
    assert torch.equal(record(sequential)[1], plain)


def test_an_interrupted_edit_of_resid_mid_leaves_nothing_for_the_next_run(sequential):
    handles = attach_edit(sequential.anatomy, Site(1, "hook_resid_mid"), push)
    ids = ids_for(sequential)
    expected = sequential.step(ids)
    norm = sequential.anatomy.mid_norm(1)
    breaker = norm.register_forward_hook(lambda *_: (_ for _ in ()).throw(OSError("cut")))
    with pytest.raises(OSError, match="cut"):
        sequential.step(ids[:, :3])
    breaker.remove()
    again = sequential.step(ids)
    for handle in handles:
        handle.remove()
    assert torch.equal(again, expected)


def test_blocks_that_return_tuples_are_read_and_edited(tuple_model):
    site = Site(0, "hook_resid_post")
    plain, logits = record(tuple_model, site.name)
    taps, moved = edited(tuple_model, [(site, push)], site.name, "blocks.1.hook_resid_pre")
    torch.testing.assert_close(taps[site.name], push(plain[site.name]))
    assert torch.equal(taps["blocks.1.hook_resid_pre"], taps[site.name])
    assert (moved - logits).abs().max() > 0.01


@pytest.mark.parametrize(
    ("site", "sentence"),
    [
        (Site(3, "hook_resid_post"), "numbered 0 to 2"),
        (Site(1, "attn.hook_result"), "hook_result is not one that is known here"),
        (Site(1, "hook_resid_mid"), "does not exist"),
    ],
)
def test_a_site_that_the_model_lacks_is_named_in_a_sentence(site, sentence, tmp_path_factory):
    anatomy = open_tiny_model("gpt_neox", tmp_path_factory).anatomy
    with pytest.raises(SaeMismatch, match=sentence) as caught:
        attach_edit(anatomy, site, push)
    assert site.name in str(caught.value)
    assert "GPT-NeoX" in str(caught.value)
    with pytest.raises(SaeMismatch, match=sentence), tapped(anatomy, [site.name]):
        pass


def test_a_name_that_is_no_site_is_refused(tmp_path_factory):
    anatomy = open_tiny_model("gpt2", tmp_path_factory).anatomy
    with pytest.raises(SaeMismatch, match="not a site name"), tapped(anatomy, ["layer 3"]):
        pass


def test_a_module_that_was_not_run_is_told_when_it_is_read(tmp_path_factory):
    model = open_tiny_model("gpt2", tmp_path_factory)
    with tapped(model.anatomy, ["blocks.1.hook_resid_mid"]) as taps:
        assert "blocks.1.hook_resid_mid" not in taps
        with pytest.raises(SaeMismatch, match="did not come past the site"):
            _ = taps["blocks.1.hook_resid_mid"]

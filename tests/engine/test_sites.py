"""Every site against values that are computed by hand from a block's modules."""

import pytest
import torch
from tiny_models import D_MLP, D_MODEL, FAMILIES, open_tiny_model
from tiny_saes import random_sae

from microscope.core.errors import SaeMismatch
from microscope.core.features import Clamp, FeatureId
from microscope.core.prompts import Prompt
from microscope.core.sites import Site, parse_site
from microscope.engine.clamping import ClampSet, clamped, editable_positions
from microscope.engine.reading import trace
from microscope.engine.sites import find_place, site_width
from microscope.engine.tracing import attach_edit, tapped

LAYER = 1
HOOKS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "attn.hook_z",
    "hook_mlp_in",
    "hook_mlp_out",
    "mlp.hook_in",
    "mlp.hook_out",
    "mlp.hook_pre",
    "mlp.hook_post",
    "ln1.hook_normalized",
    "ln2.hook_normalized",
)
PARTS = {  # what the modules of a block are called
    "gpt2": ("ln_1", "ln_2", "attn", "attn.c_proj", "mlp", "mlp.c_fc", "mlp.c_proj"),
    "gpt_neox": (
        "input_layernorm",
        "post_attention_layernorm",
        "attention",
        "attention.dense",
        "mlp",
        "mlp.dense_h_to_4h",
        "mlp.dense_4h_to_h",
    ),
    "llama": (
        "input_layernorm",
        "post_attention_layernorm",
        "self_attn",
        "self_attn.o_proj",
        "mlp",
        "mlp.gate_proj",
        "mlp.down_proj",
    ),
}
PARTS["gemma2"] = (
    "input_layernorm",
    "pre_feedforward_layernorm",
    *PARTS["llama"][2:],
)
CHECKED = tuple(PARTS)


def ids_for(model):
    return torch.tensor([model.tokenise(Prompt("The lamp on the harbour wall"))])


def name_of(hook):
    return Site(LAYER, hook).name


def record(model, names):
    with tapped(model.anatomy, names) as taps:
        logits = model.step(ids_for(model), keep=0)
    return dict(taps), logits


def push(x):
    """An edit with no symmetry: every dimension moves by its own amount."""
    return x + torch.linspace(-1, 2, x.shape[-1])


def unit_size(norm, x):
    """A norm's input with unit size, in float64, from its definition."""
    wide = x.double()
    if isinstance(norm, torch.nn.LayerNorm):
        wide = wide - wide.mean(-1, keepdim=True)
        eps = norm.eps
    else:
        eps = getattr(norm, "variance_epsilon", None) or norm.eps
    return (wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt()).float()


@pytest.fixture(params=CHECKED)
def checked(request, tmp_path_factory):
    """A model, its family's name, its block 1 and the parts of that."""
    model = open_tiny_model(request.param, tmp_path_factory)
    block = model.anatomy.blocks[LAYER]
    return model, request.param, block, [block.get_submodule(p) for p in PARTS[request.param]]


@torch.no_grad()
def by_hand(model, family, block, parts):
    """What stands at every hook of block 1, from the hidden states around it alone.

    Attention's output is what is left of the block; the rest follows from the modules.
    """
    ln1, ln2, _, _, mlp, up, down = parts
    states = model.network(ids_for(model), output_hidden_states=True).hidden_states
    pre, post = states[LAYER], states[LAYER + 1]
    attn = attention_by_module(model, family, block, parts, pre)
    is_parallel = family == "gpt_neox"
    mid = pre if is_parallel else pre + attn
    mlp_in = ln2(mid)
    hidden = up(mlp_in)
    activated = mlp.act_fn(hidden) if hasattr(mlp, "act_fn") else mlp.act(hidden)
    if hasattr(mlp, "up_proj"):
        activated = activated * mlp.up_proj(mlp_in)
    mlp_out = down(activated)
    added = block.post_feedforward_layernorm(mlp_out) if family == "gemma2" else mlp_out
    torch.testing.assert_close(pre + attn + added, post, atol=1e-4, rtol=1e-4)
    found = {
        "hook_resid_pre": pre,
        "hook_resid_post": post,
        "hook_attn_out": attn,
        "hook_mlp_in": mid,
        "hook_mlp_out": added,
        "mlp.hook_in": mlp_in,
        "mlp.hook_out": mlp_out,
        "mlp.hook_pre": hidden,
        "mlp.hook_post": activated,
        "ln1.hook_normalized": unit_size(ln1, pre),
        "ln2.hook_normalized": unit_size(ln2, mid),
    }
    return found if is_parallel else found | {"hook_resid_mid": mid}


def attention_by_module(model, family, block, parts, pre):
    """Attention's share, from one call of the module with the arguments it gets in a run."""
    calls, attention = [], parts[2]

    def keep(_module, args, kwargs):
        calls.append((args, kwargs))

    handle = attention.register_forward_pre_hook(keep, with_kwargs=True)
    model.step(ids_for(model))
    handle.remove()
    args, kwargs = calls[0]
    normed = parts[0](pre)
    given = ((normed, *args[1:]), kwargs) if args else ((), {**kwargs, "hidden_states": normed})
    raw = attention(*given[0], **given[1])[0]
    return block.post_attention_layernorm(raw) if family == "gemma2" else raw


def test_what_is_recorded_is_what_the_modules_give_by_hand(checked):
    model, family, block, parts = checked
    expected = by_hand(model, family, block, parts)
    taps, _ = record(model, [name_of(hook) for hook in expected])
    for hook, value in expected.items():
        found = taps[name_of(hook)]
        torch.testing.assert_close(
            found, value, atol=1e-4, rtol=1e-4, msg=lambda m, h=hook: h + m
        )


def test_z_is_what_the_output_projection_turns_into_attentions_output(checked):
    model, family, block, parts = checked
    taps, _ = record(model, [name_of("attn.hook_z"), name_of("hook_attn_out")])
    z = taps[name_of("attn.hook_z")]
    with torch.no_grad():
        out = parts[3](z)
        out = block.post_attention_layernorm(out) if family == "gemma2" else out
    torch.testing.assert_close(out, taps[name_of("hook_attn_out")], atol=1e-4, rtol=1e-4)
    one_head = attention_weights_times_values(model, family, z.shape[-1])
    if one_head is not None:
        torch.testing.assert_close(z, one_head, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def attention_weights_times_values(model, family, width):
    """The heads side by side for GPT-2, from its queries, keys and values."""
    if family != "gpt2":
        return None
    block = model.anatomy.blocks[LAYER]
    pre = model.network(ids_for(model), output_hidden_states=True).hidden_states[LAYER]
    n, heads = pre.shape[1], model.network.config.n_head
    q, k, v = (
        t.view(n, heads, -1).transpose(0, 1)
        for t in block.attn.c_attn(block.ln_1(pre))[0].split(width, dim=-1)
    )
    scores = q @ k.transpose(1, 2) / (width // heads) ** 0.5
    ahead = torch.ones(n, n, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(ahead, -torch.inf).softmax(-1)
    return (weights @ v).transpose(0, 1).reshape(1, n, width)


def test_the_token_embedding_has_no_positions_and_is_scaled_where_the_family_does(checked):
    model, family, *_ = checked
    taps, _ = record(model, ["hook_embed", "embed"])
    rows = model.anatomy.embedding.weight[ids_for(model)]
    expected = rows * D_MODEL**0.5 if family == "gemma2" else rows
    torch.testing.assert_close(taps["hook_embed"], expected)
    is_same = torch.allclose(taps["hook_embed"], taps["embed"])
    assert is_same == (family != "gpt2")


def test_phi3_keeps_what_goes_through_the_non_linearity_in_the_first_half(tmp_path_factory):
    model = open_tiny_model("phi3", tmp_path_factory)
    names = [name_of(hook) for hook in ("mlp.hook_in", "mlp.hook_pre", "mlp.hook_post")]
    taps, _ = record(model, names)
    mlp = model.anatomy.blocks[LAYER].mlp
    with torch.no_grad():
        gate, up = mlp.gate_up_proj(taps[names[0]]).chunk(2, dim=-1)
    torch.testing.assert_close(taps[names[1]], gate)
    torch.testing.assert_close(taps[names[2]], up * mlp.activation_fn(gate))


# -- edits ---------------------------------------------------------------------------------


def hand_hooks(family, parts, block):
    """Module and end of every editable hook but the middle of the stream."""
    _, ln2, attention, o_proj, mlp, up, down = parts
    sandwiched = family == "gemma2"
    return {
        "hook_resid_pre": (block, "input"),
        "hook_resid_post": (block, "output"),
        "hook_attn_out": (
            block.post_attention_layernorm if sandwiched else attention,
            "output",
        ),
        "attn.hook_z": (o_proj, "input"),
        "hook_mlp_in": (ln2, "input"),
        "hook_mlp_out": (block.post_feedforward_layernorm if sandwiched else mlp, "output"),
        "mlp.hook_in": (mlp, "input"),
        "mlp.hook_out": (mlp, "output"),
        "mlp.hook_pre": (up, "output"),
        "mlp.hook_post": (down, "input"),
    }


def attached_by_hand(module, end):
    def on_input(_module, args):
        return (push(args[0]), *args[1:])

    def on_output(_module, _args, output):
        if isinstance(output, tuple):
            return (push(output[0]), *output[1:])
        return push(output)

    if end == "input":
        return module.register_forward_pre_hook(on_input)
    return module.register_forward_hook(on_output)


def test_an_edit_changes_the_logits_as_a_hook_by_hand_does(checked):
    model, family, block, parts = checked
    _, plain = record(model, [])
    for hook, (module, end) in hand_hooks(family, parts, block).items():
        handle = attached_by_hand(module, end)
        _, expected = record(model, [])
        handle.remove()
        handles = attach_edit(model.anatomy, Site(LAYER, hook), push)
        _, found = record(model, [])
        for handle in handles:
            handle.remove()
        assert torch.equal(found, expected), hook
        assert (found - plain).abs().max() > 1e-3, hook


def test_phi3_is_edited_in_the_first_half_only(tmp_path_factory):
    model = open_tiny_model("phi3", tmp_path_factory)
    module = model.anatomy.blocks[LAYER].mlp.gate_up_proj

    def on_output(_module, _args, output):
        gate, up = output.chunk(2, dim=-1)
        return torch.cat((push(gate), up), dim=-1)

    handle = module.register_forward_hook(on_output)
    _, expected = record(model, [])
    handle.remove()
    handles = attach_edit(model.anatomy, Site(LAYER, "mlp.hook_pre"), push)
    _, found = record(model, [])
    for handle in handles:
        handle.remove()
    assert torch.equal(found, expected)
    assert not torch.equal(found, record(model, [])[1])


def test_what_the_mlp_reads_is_edited_apart_from_the_stream(tmp_path_factory):
    """Both edits of one norm's input: the stream's reaches the skip, the MLP's does not."""
    model = open_tiny_model("llama", tmp_path_factory)
    mid, own = Site(LAYER, "hook_resid_mid"), Site(LAYER, "hook_mlp_in")
    names = [mid.name, own.name, name_of("hook_mlp_out"), name_of("hook_resid_post")]
    plain, _ = record(model, names)
    for order in ([(mid, push), (own, torch.neg)], [(own, torch.neg), (mid, push)]):
        handles = [h for site, edit in order for h in attach_edit(model.anatomy, site, edit)]
        taps, _ = record(model, names)
        for handle in handles:
            handle.remove()
        torch.testing.assert_close(taps[mid.name], push(plain[mid.name]))
        torch.testing.assert_close(taps[own.name], -push(plain[mid.name]))
        total = taps[mid.name] + taps[name_of("hook_mlp_out")]
        torch.testing.assert_close(
            taps[name_of("hook_resid_post")], total, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("family", "hook"),
    [
        ("gpt2", "ln1.hook_normalized"),
        ("gemma2", "ln2.hook_normalized"),
        ("phi", "hook_mlp_in"),
    ],
)
def test_what_can_only_be_read_refuses_an_edit(family, hook, tmp_path_factory):
    model = open_tiny_model(family, tmp_path_factory)
    assert name_of(hook) in record(model, [name_of(hook)])[0]
    with pytest.raises(SaeMismatch, match="can be read but not edited") as refusal:
        attach_edit(model.anatomy, Site(LAYER, hook), push)
    assert name_of(hook) in str(refusal.value)


# -- paths of modules ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("module:transformer.h.1.mlp.output", "blocks.1.hook_mlp_out"),
        ("transformer.h.1.attn.c_proj.input", "blocks.1.attn.hook_z"),
        ("h.1.attn", "blocks.1.hook_attn_out"),
        ("transformer.h.1", "blocks.1.hook_resid_post"),
        ("model.layers.1.mlp.c_fc.output", "blocks.1.mlp.hook_pre"),
        ("wte", "hook_embed"),
    ],
)
def test_a_module_is_found_by_its_whole_path_and_by_shorter_ones(name, same, tmp_path_factory):
    model = open_tiny_model("gpt2", tmp_path_factory)
    assert find_place(model.anatomy, name) == find_place(model.anatomy, same)
    taps, _ = record(model, [name, same])
    assert torch.equal(taps[name], taps[same])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("module:transformer.h.1.nowhere.output", "no module 'transformer.h.1.nowhere'"),
        (
            "transformer.h.7",
            "no module 'transformer.h.7'; its blocks are called transformer.h.0",
        ),
        ("transformer.h", "is a list of modules"),
    ],
)
def test_a_module_that_is_not_there_is_told_in_a_sentence(name, sentence, tmp_path_factory):
    with pytest.raises(SaeMismatch, match=sentence):
        find_place(open_tiny_model("gpt2", tmp_path_factory).anatomy, name)


# -- widths ------------------------------------------------------------------------------------


def sites_of(model):
    names = ["embed", "hook_embed", *map(name_of, HOOKS)]
    for name in names:
        try:
            find_place(model.anatomy, name)
        except SaeMismatch:
            continue
        yield name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_width_that_is_told_is_the_width_that_stands_there(family, tmp_path_factory):
    model = open_tiny_model(family, tmp_path_factory)
    names = list(sites_of(model))
    taps, _ = record(model, names)
    assert {name: site_width(model.anatomy, name) for name in names} == {
        name: taps[name].shape[-1] for name in names
    }
    assert all(taps[name].dim() == 3 for name in names)
    missing = {*map(name_of, HOOKS)} - {*names}
    parallel = {
        "gpt_neox": {"hook_resid_mid"},
        "phi": {"hook_resid_mid", "ln2.hook_normalized"},
    }
    assert missing == {name_of(hook) for hook in parallel.get(family, ())}


def test_widths_differ_between_sites(tmp_path_factory):
    anatomy = open_tiny_model("gemma2", tmp_path_factory).anatomy
    hooks = ("attn.hook_z", "mlp.hook_pre", "hook_mlp_out")
    assert [site_width(anatomy, name_of(hook)) for hook in hooks] == [32, D_MLP, D_MODEL]
    assert site_width(anatomy, "model.layers.1.mlp.act_fn") is None


# -- SAEs at every site ------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "phi3"])
def test_an_sae_at_every_site_is_read_and_held(family, tmp_path_factory):
    model = open_tiny_model(family, tmp_path_factory)
    ids = ids_for(model)[0].tolist()
    names = [
        name for name in sites_of(model) if not find_place(model.anatomy, name).is_read_only
    ]
    names.append(f"{model.anatomy.family.blocks}.1.mlp.output")
    for name in names:
        width = site_width(model.anatomy, name) or D_MODEL
        sae = random_sae("jumprelu", d_in=width, name=name)
        before = trace(model, ids, ClampSet(), sae.sites)[name]
        found = sae.strongest(before, 4)
        share = (sae.error(before).square().sum(-1) / before.square().sum(-1)).numpy()
        torch.testing.assert_close(torch.tensor(found.error_share), torch.tensor(share))
        held = ClampSet.of([Clamp(FeatureId(name, 3), 9.0)], {name: sae})
        after = trace(model, ids, held, sae.sites)[name]
        move = (9.0 - sae.encode(before)[:, [3]]) * sae.w_dec[3]
        is_held = editable_positions(torch.tensor([ids]), model.special_ids)[0]
        expected = before + move * is_held[:, None]
        torch.testing.assert_close(
            after, expected, atol=1e-3, rtol=1e-3, msg=lambda m, n=name: n + m
        )


def test_two_names_of_one_place_both_encode_what_stood_there(tmp_path_factory):
    model = open_tiny_model("llama", tmp_path_factory)
    names = [name_of("hook_mlp_out"), name_of("mlp.hook_out"), "module:layers.1.mlp.output"]
    saes = {
        name: random_sae(d_in=D_MODEL, name=name, seed=seed) for seed, name in enumerate(names)
    }
    clamps = [Clamp(FeatureId(name, 3), 9.0) for name in names]
    held = ClampSet.of(clamps, saes)
    assert [parse_site(name) for name in names] == [edit.site for edit in held.edits]
    ids = ids_for(model)
    plain, _ = record(model, names[:1])
    x = plain[names[0]]
    everywhere = torch.ones(ids.shape, dtype=torch.bool)
    with clamped(model.anatomy, held, everywhere), tapped(model.anatomy, names[:1]) as taps:
        model.step(ids)
    moves = [(9.0 - sae.encode(x)[..., [3]]) * sae.w_dec[3] for sae in saes.values()]
    torch.testing.assert_close(taps[names[0]], x + sum(moves), atol=1e-4, rtol=1e-4)

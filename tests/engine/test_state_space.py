"""State-space models: read, edited and written with by the same means as transformers."""

import pytest
import torch
import transformers
from tiny_models import CONTEXT, D_MODEL, save_tiny_model
from tiny_saes import random_sae

from microscope.core.errors import SaeMismatch
from microscope.core.features import Clamp, FeatureId
from microscope.core.messages import Read
from microscope.core.prompts import Prompt, Sampler
from microscope.core.sites import Site, lens_sites, resid_post
from microscope.engine.clamping import ClampSet, clamped, editable_positions
from microscope.engine.generation import write
from microscope.engine.language_model import LanguageModel
from microscope.engine.lenses import Lens
from microscope.engine.live import Kl, LiveText
from microscope.engine.reading import read
from microscope.engine.recurrence import RecurrentState, is_recurrent
from microscope.engine.sampling import choose
from microscope.engine.tracing import attach_edit, tapped

N_LAYERS = 3
SIZES = {"hidden_size": D_MODEL, "num_hidden_layers": N_LAYERS}
CONFIGS = {
    "mamba": lambda: transformers.MambaConfig(**SIZES, state_size=4, time_step_rank=4),
    "mamba2": lambda: transformers.Mamba2Config(
        **SIZES, state_size=4, head_dim=8, num_heads=8, expand=2, n_groups=1, chunk_size=8
    ),
    "rwkv": lambda: transformers.RwkvConfig(
        **SIZES, attention_hidden_size=D_MODEL, context_length=CONTEXT, rescale_every=2
    ),
}
GREEDY = Sampler(temperature=0)


@pytest.fixture(scope="module", params=CONFIGS)
def model(request, tmp_path_factory):
    folder = save_tiny_model(
        tmp_path_factory.mktemp(request.param), CONFIGS[request.param](), "gpt_neox"
    )
    return LanguageModel.open(str(folder), device="cpu")


def ids_for(model):
    return torch.tensor(
        [model.tokenise(Prompt("The lamp on the harbour wall turns all night"))]
    )


def push(x):
    return x + torch.linspace(-1, 2, x.shape[-1])


def clamps_on(model, layer=1, value=6.0):
    site = resid_post(layer)
    sae = random_sae(d_in=D_MODEL, name=site)
    return ClampSet.of([Clamp(FeatureId(site, 3), value)], {site: sae})


def test_it_is_known_and_its_lens_is_exact(model):
    assert model.anatomy.architecture in ("Mamba", "RWKV")
    assert model.card.n_layers == N_LAYERS
    assert model.card.is_exact
    assert is_recurrent(model.network)


def test_the_last_lens_row_is_the_softmax_of_the_model(model):
    ids = ids_for(model)
    with torch.no_grad():
        expected = model.network(input_ids=ids).logits[0].softmax(-1)
    last = resid_post(N_LAYERS - 1)
    with tapped(model.anatomy, [last]) as taps:
        model.step(ids)
    found = Lens(model).unembed(taps[last][0]).softmax(-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_blocks_are_read_before_and_after(model):
    ids = ids_for(model)
    with torch.no_grad():
        seen = []
        handles = [
            block.register_forward_hook(lambda _m, _a, out: seen.append(out))
            for block in model.anatomy.blocks
        ]
        model.network(input_ids=ids)
        [handle.remove() for handle in handles]
    outputs = [out[0] if isinstance(out, tuple) else out for out in seen]
    names = [
        Site(n, hook).name for n in range(3) for hook in ("hook_resid_pre", "hook_resid_post")
    ]
    with tapped(model.anatomy, ["embed", *names]) as taps:
        model.step(ids)
    for layer, output in enumerate(outputs):
        assert torch.equal(taps[resid_post(layer)], output)
        if layer:
            assert torch.equal(taps[f"blocks.{layer}.hook_resid_pre"], outputs[layer - 1])
    assert torch.equal(taps["embed"], model.anatomy.embedding(ids))


@pytest.mark.parametrize(("layer", "hook"), [(0, "hook_resid_post"), (1, "hook_resid_pre")])
def test_an_edit_changes_the_logits_as_a_hook_by_hand_does(model, layer, hook):
    ids, block = ids_for(model), model.anatomy.blocks[layer]
    plain = model.step(ids)

    def by_hand(_module, _args, output):
        if isinstance(output, tuple):
            return (push(output[0]), *output[1:])
        return push(output)

    before = model.anatomy.blocks[0]
    handle = before.register_forward_hook(by_hand)
    expected = model.step(ids)
    handle.remove()
    handles = attach_edit(model.anatomy, Site(layer, hook), push)
    found = model.step(ids)
    for handle in handles:
        handle.remove()
    assert torch.equal(found, expected)
    assert (found - plain).abs().max() > 0.01
    assert not block._forward_hooks
    assert not block._forward_pre_hooks


def test_text_with_a_state_equals_text_without_one(model):
    prompt = ids_for(model)[0].tolist()
    for clamp_set in (ClampSet(), clamps_on(model)):
        written = [w.id for w in write(model, prompt, clamp_set, GREEDY, 0, 8)]
        sequence = list(prompt)
        for _ in written:
            rows = torch.tensor([sequence])
            editable = editable_positions(rows, model.special_ids)
            with clamped(model.anatomy, clamp_set, editable):
                logits = model.step(rows)[0, 0]
            sequence.append(choose(logits, sequence, GREEDY, 0, position=len(sequence)))
        assert sequence[len(prompt) :] == written


def test_a_moving_slider_gives_the_text_of_a_fresh_run(model):
    prompt, live = ids_for(model)[0].tolist(), LiveText(model)
    for value in (6.0, 40.0, 40.0, 7.0):
        clamp_set = clamps_on(model, value=value)
        written, n_measured = [], 0
        for step in live.write(prompt, clamp_set, GREEDY, 0, 8):
            if isinstance(step, Kl):
                assert (step.values >= 0).all()
                n_measured += len(step.values)
            else:
                written = [*written[: step.position], *(w.id for w in step.written)]
        assert written == [w.id for w in write(model, prompt, clamp_set, GREEDY, 0, 8)]
        assert n_measured == len(written)


def test_clamps_change_the_text(model):
    prompt = ids_for(model)[0].tolist()
    texts = [
        [w.id for w in write(model, prompt, clamp_set, GREEDY, 0, 8)]
        for clamp_set in (ClampSet(), clamps_on(model, value=200.0))
    ]
    assert texts[0] != texts[1]


@pytest.mark.parametrize("pieces", [[10], [4, 1, 5], [1, 2, 3, 4]])
def test_a_state_is_led_on_by_any_number_of_tokens(model, pieces):
    ids = ids_for(model)[:, :10]
    whole = model.step(ids, keep=0)
    state, found = model.new_cache(), []
    assert isinstance(state, RecurrentState)
    for piece in ids.split(pieces, dim=1):
        found.append(model.step(piece, state, keep=0))
    torch.testing.assert_close(torch.cat(found, 1), whole, atol=1e-4, rtol=1e-4)
    last_two = model.step(ids[:, :4], state, keep=2)
    assert last_two.shape[:2] == (1, 2)


def test_two_states_do_not_know_of_each_other(model):
    ids = ids_for(model)
    first, second = model.new_cache(), model.new_cache()
    model.step(ids[:, :4], first)
    expected = model.step(ids[:, :3])
    assert torch.allclose(model.step(ids[:, :3], second), expected, atol=1e-5)
    model.step(ids[:, 3:5], second)
    led_on = model.step(ids[:, 4:5], first)
    torch.testing.assert_close(led_on, model.step(ids[:, :5]), atol=1e-4, rtol=1e-4)


def test_a_reading_shows_lens_and_features(model):
    site = resid_post(1)
    saes = {site: random_sae(d_in=D_MODEL, name=site)}
    events = list(read(model, saes, Read(run_id=1, prompt=Prompt("The lamp"))))
    kinds = {type(event).__name__ for event in events}
    assert kinds == {"PromptTokenised", "LensRead", "FeaturesRead"}
    n_rows = sum(e.ids.shape[0] for e in events if type(e).__name__ == "LensRead")
    assert n_rows == len(lens_sites(N_LAYERS))


def test_what_a_block_lacks_is_told_and_its_modules_can_be_read(model):
    is_mamba = model.anatomy.architecture == "Mamba"
    for hook in ("hook_resid_mid", "hook_attn_out", "attn.hook_z") if is_mamba else ():
        with (
            pytest.raises(SaeMismatch, match="does not exist"),
            tapped(model.anatomy, [f"blocks.1.{hook}"]),
        ):
            pass
    path = f"{model.anatomy.family.blocks}.1.{'mixer' if is_mamba else 'feed_forward'}"
    with tapped(model.anatomy, [f"{path}.input", f"module:{path}.output"]) as taps:
        model.step(ids_for(model))
    assert [tap.shape[-1] for tap in taps.values()] == [D_MODEL, D_MODEL]


def test_rwkv_says_what_it_says_when_it_halves_its_stream(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("r"), CONFIGS["rwkv"](), "gpt_neox")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    model = LanguageModel.open(str(folder), device="cpu")
    ids = ids_for(model)
    with torch.no_grad():
        expected = plain(input_ids=ids).logits
    assert plain.config.rescale_every == 2
    torch.testing.assert_close(model.step(ids, keep=0), expected, atol=1e-3, rtol=1e-3)

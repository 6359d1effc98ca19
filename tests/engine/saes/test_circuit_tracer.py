import numpy as np
import pytest
import torch
from reference import (
    CPU,
    D_IN,
    N_FEATURES,
    assert_matches,
    doubles,
    jumprelu,
    random_weights,
    relu,
    tokens,
)
from safetensors.torch import load_file, save_file

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes import named_tensors
from microscope.engine.saes.circuit_tracer import outline, read, recognises
from microscope.engine.saes.loading import find_saes
from microscope.engine.saes.transcoder import Transcoder

SETTINGS = """\
# transcoders of a small model
model_name: "google/gemma-2-2b"
model_kind: transcoder_set
feature_input_hook: ln2.hook_normalized
feature_output_hook: 'hook_mlp_out'
scan: [gemma-2-2b]
"""

BOMB = "l0: &l0 {x: 1}\n" + "".join(
    f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)
"""Every line repeats the one before it nine times."""


def save(folder, w, *, layer=3, parts=(), settings=SETTINGS, threshold=None):
    folder.mkdir(parents=True, exist_ok=True)
    named = {
        "W_enc": w["w_enc"].T,
        "W_dec": w["w_dec"],
        "b_enc": w["b_enc"],
        "b_dec": w["b_dec"],
    }
    if "threshold" in parts:
        stored = w["threshold"] if threshold is None else threshold
        named["activation_function.threshold"] = stored
    if "skip" in parts:
        named["W_skip"] = w["skip"].T
    tensors = {n: torch.tensor(np.ascontiguousarray(a)) for n, a in named.items()}
    path = folder / f"layer_{layer}.safetensors"
    save_file(tensors, str(path))
    if settings is not None:
        (folder / "config.yaml").write_text(settings)
    return path


def formulas(x, w, parts):
    x, w = x.astype(np.float64), doubles(w)
    p = x @ w["w_enc"] + w["b_enc"]
    f = jumprelu(p, w["threshold"]) if "threshold" in parts else relu(p)
    return f, f @ w["w_dec"] + w["b_dec"] + (x @ w["skip"] if "skip" in parts else 0)


@pytest.mark.parametrize(
    ("parts", "architecture"),
    [
        ((), "transcoder"),
        (("threshold",), "jumprelu_transcoder"),
        (("skip",), "skip_transcoder"),
        (("threshold", "skip"), "jumprelu_skip_transcoder"),
    ],
)
@pytest.mark.parametrize("d_out", [D_IN, 6])
def test_activations_and_reconstruction_are_those_of_the_formulas(
    tmp_path, parts, architecture, d_out
):
    w = random_weights(d_out=d_out)
    sae = read(save(tmp_path, w, parts=parts), CPU)
    assert isinstance(sae, Transcoder)
    assert_matches(sae, tokens(), *formulas(tokens(), w, parts), w["w_dec"])
    assert sae.sites == ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out")
    assert sae.card.architecture == architecture
    assert (sae.card.n_features, sae.card.d_in) == (N_FEATURES, D_IN)


def test_mapped_bfloat16_weights_are_computed_with_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)
    w = {n: torch.from_numpy(a).bfloat16().float().numpy() for n, a in random_weights().items()}
    path = save(tmp_path, w, parts=("threshold", "skip"))
    save_file({n: t.bfloat16() for n, t in load_file(path).items()}, str(path))
    sae = read(path, CPU)
    assert sae.w_enc.dtype == sae.w_dec.dtype == sae.w_skip.dtype == torch.bfloat16
    expected = formulas(tokens(), w, ("threshold", "skip"))
    assert_matches(sae, tokens(), *expected, w["w_dec"])


def test_a_skip_matrix_that_is_damaged_is_refused_when_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)
    w = random_weights()
    w["skip"][2, 3] = np.nan
    sae, x = read(save(tmp_path, w, parts=("skip",)), CPU), torch.from_numpy(tokens())
    with pytest.raises(SaeUnreadable, match=r"skip matrix.*not finite"):
        sae.error(x, x)


def test_one_threshold_may_be_that_of_all_features(tmp_path):
    w = random_weights()
    w["threshold"][:] = 0.75
    path = save(tmp_path, w, parts=("threshold",), threshold=w["threshold"][:1])
    assert_matches(
        read(path, CPU), tokens(), *formulas(tokens(), w, ("threshold",)), w["w_dec"]
    )


@pytest.mark.parametrize(
    ("hook_in", "hook_out"),
    [("hook_resid_mid", "mlp.hook_out"), ("mlp.hook_in", "hook_mlp_out")],
)
def test_the_settings_name_the_hooks_of_every_layer(tmp_path, hook_in, hook_out):
    settings = (
        "{model_kind: transcoder_set, "
        f"feature_input_hook: {hook_in}, feature_output_hook: {hook_out}, transcoders: null}}"
    )
    paths = [
        save(tmp_path, random_weights(), layer=layer, settings=settings) for layer in (2, 10)
    ]
    assert find_saes(str(tmp_path)) == [str(path) for path in paths]
    assert [outline(path).site for path in paths] == [
        f"blocks.2.{hook_in}",
        f"blocks.10.{hook_in}",
    ]
    assert outline(paths[1]).site_out == f"blocks.10.{hook_out}"


@pytest.mark.parametrize("name", ["wandb-config.yaml", "wanb-config.yaml"])
def test_beside_a_training_runs_settings_the_mlp_itself_is_meant(tmp_path, name):
    path = save(tmp_path, random_weights(), settings=None)
    assert not recognises(path)
    (tmp_path / name).write_text("d_model:\n  value: 8\nd_feature:\n  value: 20\n")
    assert recognises(path)
    card = outline(path)
    assert (card.site, card.site_out) == ("blocks.3.mlp.hook_in", "blocks.3.mlp.hook_out")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("model_kind: transcoder_set", "feature_input_hook"),
        (
            SETTINGS.replace("transcoder_set", "cross_layer_transcoder"),
            "cross_layer_transcoder",
        ),
        (SETTINGS.replace("ln2.hook_normalized", "../../etc"), "not the settings"),
        (SETTINGS.replace("ln2.hook_normalized", "[1, 2]"), "feature_input_hook"),
        ("- a\n- b\n", "no YAML mapping"),
        ("", "no YAML mapping"),
        ("a: [", "cannot be read as YAML"),
        ("[" * 20_000, "cannot be read as YAML"),
        ("a: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        ("a: 2001-99-99", "cannot be read as YAML"),
        (BOMB, "repeats parts of itself"),
        ("a: " + "x" * 300_000, "far too large"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_a_sentence(tmp_path, settings, words):
    path = save(tmp_path, random_weights(), settings=settings)
    with pytest.raises(SaeUnreadable) as refusal:
        read(path, CPU)
    assert words in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)


def test_settings_that_are_no_text_are_refused(tmp_path):
    path = save(tmp_path, random_weights())
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SaeUnreadable, match=r"config\.yaml cannot be read"):
        outline(path)


@pytest.mark.parametrize("name", ["w_enc", "w_dec"])
def test_swapped_matrices_are_refused(tmp_path, name):
    w = random_weights()
    w[name] = w[name].T
    with pytest.raises(SaeUnreadable, match="shape"):
        read(save(tmp_path, w), CPU)

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_saes import ARCHITECTURES, TENSORS, K, random_sae, random_weights, save_saelens

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.normalisations import (
    Centred,
    ConstantNorm,
    LayerNorm,
    Unnormalised,
)
from microscope.engine.saes.saelens import outline, read, recognises

CPU = torch.device("cpu")
READABLE = [a for a in ARCHITECTURES if a in TENSORS]


def residuals(n_tokens=6):
    return 2 * torch.randn(n_tokens, 8, generator=torch.Generator().manual_seed(3))


def settings_of(folder):
    return json.loads((folder / "cfg.json").read_text())


def change_settings(folder, **cfg):
    (folder / "cfg.json").write_text(json.dumps(settings_of(folder) | cfg))


def legacy_settings(folder, **cfg):
    """Replace `cfg.json` by the flat layout that was used before version 6."""
    plain = {"d_in": 8, "d_sae": 20, "hook_point": "blocks.1.hook_resid_pre"} | cfg
    (folder / "cfg.json").write_text(json.dumps(plain))


@pytest.mark.parametrize("architecture", READABLE)
def test_a_saved_sae_reads_back_as_the_folded_one(tmp_path, architecture):
    save_saelens(tmp_path, architecture)
    x, sae, expected = residuals(), read(tmp_path, CPU), random_sae(architecture).folded()
    torch.testing.assert_close(sae.encode(x), expected.encode(x))
    torch.testing.assert_close(sae.error(x), expected.error(x))
    assert sae.card.is_folded is (architecture != "topk")
    assert (sae.card.architecture, sae.card.n_features, sae.card.d_in) == (architecture, 20, 8)


def test_top_k_by_length_is_folded_into_plain_top_k(tmp_path):
    save_saelens(tmp_path, "topk", rescale_acts_by_decoder_norm=True)
    x, sae, raw = residuals(), read(tmp_path, CPU), random_sae("topk_by_length")
    assert sae.card.is_folded
    torch.testing.assert_close(sae.encode(x), raw.encode(x))
    torch.testing.assert_close(sae.error(x), raw.error(x))


def test_b_dec_is_subtracted_unless_the_settings_say_not(tmp_path):
    save_saelens(tmp_path)
    assert read(tmp_path, CPU).subtracts_b_dec
    change_settings(tmp_path, apply_b_dec_to_input=False)
    assert not read(tmp_path, CPU).subtracts_b_dec
    legacy_settings(tmp_path)
    assert read(tmp_path, CPU).subtracts_b_dec


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (None, Unnormalised()),
        (False, Unnormalised()),
        ("none", Unnormalised()),
        ("layer_norm", LayerNorm()),
        ("constant_norm_rescale", ConstantNorm()),
        (True, Unnormalised()),
        ("expected_average_only_in", Unnormalised()),
    ],
)
def test_each_normalisation_has_its_arithmetic(tmp_path, mode, expected):
    save_saelens(tmp_path, normalize_activations=mode)
    sae = read(tmp_path, CPU)
    assert sae.normalisation == expected
    lacks_its_factor = mode in (True, "expected_average_only_in")
    assert bool(sae.card.remark) is lacks_its_factor


def test_centred_training_weights_are_heeded(tmp_path):
    metadata = {
        "hook_name": "blocks.1.hook_resid_pre",
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    save_saelens(tmp_path / "a", metadata=metadata)
    save_saelens(tmp_path / "models--jbloom--GPT2-Small-SAEs-Reformatted" / "b")
    save_saelens(tmp_path / "c", metadata=metadata, normalize_activations="layer_norm")
    assert read(tmp_path / "a", CPU).normalisation == Centred()
    released = tmp_path / "models--jbloom--GPT2-Small-SAEs-Reformatted" / "b"
    assert read(released, CPU).normalisation == Centred()
    assert read(tmp_path / "c", CPU).normalisation == LayerNorm()


@pytest.mark.parametrize(
    ("hook_name", "site"),
    [
        ("blocks.7.hook_resid_pre", "blocks.7.hook_resid_pre"),
        ("blocks.7.hook_resid_mid", "blocks.7.hook_resid_mid"),
        ("blocks.7.hook_resid_post", "blocks.7.hook_resid_post"),
        ("model.layers.3", "blocks.3.hook_resid_post"),
        ("model.language_model.layers.3", "blocks.3.hook_resid_post"),
        ("transformer.h.3", "blocks.3.hook_resid_post"),
        ("gpt_neox.layers.3", "blocks.3.hook_resid_post"),
        ("hook_embed", "hook_embed"),
        ("blocks.7.attn.hook_z", "blocks.7.attn.hook_z"),
        ("blocks.7.hook_mlp_out", "blocks.7.hook_mlp_out"),
        ("model.layers.3.mlp", "blocks.3.mlp.hook_out"),
        ("model.layers.3.mlp.experts", "module:model.layers.3.mlp.experts.output"),
    ],
)
def test_both_kinds_of_hook_name_lead_to_the_site(tmp_path, hook_name, site):
    save_saelens(tmp_path, metadata={"hook_name": hook_name})
    card = outline(tmp_path)
    assert card.site == site
    assert card.name == site


def test_the_flat_layout_with_its_old_names_is_read(tmp_path):
    save_saelens(tmp_path)
    legacy_settings(tmp_path, activation_fn_str="relu", hook_point_layer=1, lr=float("nan"))
    x, sae = residuals(), read(tmp_path, CPU)
    assert sae.card.site == "blocks.1.hook_resid_pre"
    torch.testing.assert_close(sae.encode(x), random_sae().folded().encode(x))


def test_top_k_as_an_activation_function_is_read(tmp_path):
    save_saelens(tmp_path, "topk")
    legacy_settings(tmp_path, activation_fn_str="topk", activation_fn_kwargs={"k": K})
    sae = read(tmp_path, CPU)
    assert sae.card.architecture == "topk"
    torch.testing.assert_close(sae.encode(residuals()), random_sae("topk").encode(residuals()))


def test_a_fine_tuning_factor_acts_on_the_decoder_only(tmp_path):
    factor = torch.linspace(0.5, 2, 20)
    save_saelens(tmp_path, extra={"scaling_factor": factor})
    x, plain = residuals(), random_sae()
    f = plain.encode(x)
    legacy_settings(tmp_path, finetuning_scaling_factor=True)
    tuned = read(tmp_path, CPU)
    x_hat = (f * factor) @ plain.w_dec + plain.b_dec
    torch.testing.assert_close(tuned.decode(tuned.encode(x), x), x_hat, rtol=1e-4, atol=1e-4)
    legacy_settings(tmp_path, finetuning_scaling_factor=False)
    torch.testing.assert_close(read(tmp_path, CPU).error(x), plain.error(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_float_dtype_become_float32(tmp_path, dtype):
    save_saelens(tmp_path)
    path = tmp_path / "sae_weights.safetensors"
    save_file({n: t.to(dtype) for n, t in load_file(path).items()}, str(path))
    sae = read(tmp_path, CPU)
    assert {sae.w_enc.dtype, sae.b_enc.dtype, sae.w_dec.dtype, sae.b_dec.dtype} == {
        torch.float32
    }


def test_an_open_sae_does_not_need_its_file_any_more(tmp_path):
    save_saelens(tmp_path, "topk")
    sae = read(tmp_path, CPU)
    before = sae.encode(residuals())
    path = tmp_path / "sae_weights.safetensors"
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    torch.testing.assert_close(sae.encode(residuals()), before)
    torch.testing.assert_close(sae.b_dec, random_weights()["b_dec"])


def test_a_folder_is_recognised_by_its_two_files(tmp_path):
    assert not recognises(tmp_path)
    save_saelens(tmp_path)
    assert recognises(tmp_path)
    (tmp_path / "cfg.json").unlink()
    assert not recognises(tmp_path)


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ({"architecture": "transcoder"}, "the site None"),
        ({"architecture": "transcoder", "hook_name_out": "blocks.1"}, "the site 'blocks.1'"),
        (
            {
                "architecture": "transcoder",
                "hook_name_out": "blocks.1.hook_mlp_out",
                "normalize_activations": "layer_norm",
            },
            "The transcoder",
        ),
        (
            {"architecture": "skip_transcoder", "hook_name_out": "blocks.1.hook_mlp_out"},
            "W_skip",
        ),
        ({"architecture": "temporal"}, "a temporal SAE"),
        ({"architecture": "abstopk"}, "the k None"),
        ({"architecture": "sparkle"}, "'sparkle'"),
        ({"architecture": 3}, "str"),
        ({"metadata": {"hook_name": "blocks.1"}}, "'blocks.1'"),
        ({"metadata": {"hook_name": "hook_tokens"}}, "'hook_tokens'"),
        ({"metadata": {"hook_name": "../../etc"}}, "'../../etc'"),
        ({"metadata": {"hook_name": "model.layers. 1"}}, "names the site"),
        ({"metadata": {"hook_name": 7}}, "hook_name"),
        ({"metadata": {}}, "hook_name"),
        ({"metadata": None}, "hook_name"),
        ({"hook_head_index": 2}, "head 2"),
        ({"reshape_activations": "heads"}, "'heads'"),
        ({"hook_name_out": "blocks.1.hook_mlp_out"}, "a transcoder"),
        ({"normalize_activations": "whiten"}, "'whiten'"),
        ({"normalize_activations": [1]}, "normalize_activations"),
        ({"activation_fn": "tanh-relu"}, "'tanh-relu'"),
        ({"architecture": "topk"}, "the k None"),
        ({"architecture": "topk", "k": 21}, "the k 21"),
        ({"architecture": "topk", "k": 0}, "k"),
        ({"activation_fn": "topk", "activation_fn_kwargs": {"k": "many"}}, "int"),
        ({"d_in": "8"}, "d_in"),
        ({"d_in": 0}, "d_in"),
        ({"d_sae": -1}, "d_sae"),
        ({"d_sae": 10**40}, "d_sae"),
        ({"d_sae": float("nan")}, "d_sae"),
        ({"d_sae": 2**31}, "shape"),
        ({"d_in": 9}, "shape"),
        ({"architecture": "jumprelu"}, "threshold"),
        ({"architecture": "gated"}, "b_gate"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_a_sentence(tmp_path, cfg, words):
    save_saelens(tmp_path)
    change_settings(tmp_path, **cfg)
    with pytest.raises(SaeUnreadable) as refusal:
        read(tmp_path, CPU)
    assert words in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"d_in":' * 50_000],
    ids=["empty", "cut", "list", "null", "no text", "deep lists", "deep objects"],
)
def test_settings_that_are_no_json_object_are_refused(tmp_path, text):
    save_saelens(tmp_path)
    (tmp_path / "cfg.json").write_bytes(text)
    with pytest.raises(SaeUnreadable, match=r"cfg\.json"):
        read(tmp_path, CPU)


def garbage(content):
    return b"this is no tensor file at all"


def cut(content):
    return content[: len(content) // 2]


def cut_in_the_header(content):
    return content[:20]


def endless_header(content):
    return struct.pack("<Q", 2**62) + content[8:]


def huge_tensor(content):
    header = json.dumps(
        {"W_enc": {"dtype": "F32", "shape": [8, 20], "data_offsets": [0, 9**15]}}
    )
    return struct.pack("<Q", len(header)) + header.encode()


def pickled(content):
    return b"\x80\x04cposix\nsystem\n(S'true'\ntR."


@pytest.mark.parametrize(
    "damage",
    [garbage, cut, cut_in_the_header, endless_header, huge_tensor, pickled, bytes.lower],
)
def test_a_damaged_weights_file_is_refused_by_name(tmp_path, damage):
    save_saelens(tmp_path)
    path = tmp_path / "sae_weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SaeUnreadable, match=r"sae_weights\.safetensors"):
        read(tmp_path, CPU)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("W_enc", torch.full((8, 20), torch.nan), "not finite"),
        ("W_dec", torch.full((20, 8), -torch.inf), "not finite"),
        ("b_enc", torch.zeros(20, dtype=torch.int32), "I32"),
        ("b_dec", torch.zeros(20), "shape"),
        ("W_enc", torch.zeros(20, 8), "shape"),
        ("W_enc", torch.zeros(8, 20, 1), "shape"),
    ],
)
def test_a_tensor_that_cannot_be_used_is_refused_by_name(tmp_path, name, tensor, words):
    save_saelens(tmp_path, extra={name: tensor})
    with pytest.raises(SaeUnreadable, match=words) as refusal:
        read(tmp_path, CPU)
    assert repr(name) in str(refusal.value)


def test_one_bad_number_among_many_is_found(tmp_path):
    weights = random_weights()
    weights["W_dec"][13, 5] = torch.nan
    save_saelens(tmp_path, extra={"W_dec": weights["W_dec"]})
    with pytest.raises(SaeUnreadable, match="W_dec"):
        read(tmp_path, CPU)


def test_too_little_memory_is_a_sentence(tmp_path, monkeypatch):
    save_saelens(tmp_path)

    def out_of_memory(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99 bytes")

    monkeypatch.setattr(torch.Tensor, "aminmax", out_of_memory)
    with pytest.raises(SaeUnreadable, match="not enough memory"):
        read(tmp_path, CPU)

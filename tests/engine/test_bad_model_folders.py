import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model, tiny_tokenizer

from microscope.core.errors import ModelUnreadable
from microscope.engine import loading
from microscope.engine.language_model import LanguageModel


@pytest.fixture
def folder(tmp_path, tmp_path_factory):
    """A copy of a good model, to be spoilt."""
    shutil.copytree(tiny_model("llama", tmp_path_factory), tmp_path / "model")
    return tmp_path / "model"


def refusal(source, **options):
    """The sentence with which a source is refused."""
    with pytest.raises(ModelUnreadable) as caught:
        LanguageModel.open(str(source), **{"device": "cpu"} | options)
    sentence = str(caught.value)
    assert "Traceback" not in sentence
    return sentence


def rewrite_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, {"format": "pt"})


def test_a_folder_that_is_not_there(tmp_path):
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")


def test_a_hub_id_that_is_not_on_this_computer():
    assert "Hugging Face cache" in refusal("nobody/no-such-model")


def test_a_file_instead_of_a_folder(folder):
    assert "is a file" in refusal(folder / "config.json")


def test_an_empty_folder(tmp_path):
    assert "no config.json" in refusal(tmp_path)


def test_an_sae_instead_of_a_model(tmp_path):
    (tmp_path / "cfg.json").write_text("{}")
    assert "looks like an SAE" in refusal(tmp_path)


def test_an_adapter_instead_of_a_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "adapter" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff\xfe", "[" * 100_000])
def test_a_config_that_is_no_json_object(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json" in refusal(folder)


def test_a_config_without_a_model_type(folder):
    (folder / "config.json").write_text("{}")
    assert "names no model_type" in refusal(folder)


@pytest.mark.parametrize("size", [0, 4, 200, -1000])
def test_truncated_weights_are_named(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    sentence = refusal(folder)
    assert "model.safetensors is damaged or cut short" in sentence


def test_weights_in_pickle_files_are_not_opened(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    assert "pickle" in refusal(folder)


def test_no_weights_at_all(folder):
    (folder / "model.safetensors").unlink()
    assert "has no weights" in refusal(folder)


def test_a_shard_that_is_missing_is_named(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors" in refusal(folder)


@pytest.mark.parametrize("weight_map", [{}, {"a": "../../weights.safetensors"}, {"a": 3}, []])
def test_an_index_that_lists_no_files_of_its_folder(folder, weight_map):
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert "lists no weight files" in refusal(folder)


def test_a_missing_tensor_is_named_and_not_made_up(folder):
    rewrite_weights(folder, lambda w: w.pop("model.layers.1.mlp.up_proj.weight"))
    sentence = refusal(folder)
    assert "lack 1 of the tensors" in sentence
    assert "model.layers.1.mlp.up_proj.weight" in sentence


def test_a_tensor_of_another_shape(folder):
    rewrite_config(folder, intermediate_size=40)
    assert "cannot be opened" in refusal(folder)


def test_weights_that_are_not_finite(folder):
    rewrite_weights(folder, lambda w: w["model.norm.weight"].fill_(float("nan")))
    assert "not finite" in refusal(folder)


def test_more_layers_than_the_weights_could_fill(folder):
    rewrite_config(folder, num_hidden_layers=1_000_000)
    assert "1000000 layers" in refusal(folder)


def test_layers_that_the_config_leaves_out_are_remarked_on(folder):
    rewrite_config(folder, num_hidden_layers=2)
    card = LanguageModel.open(str(folder), device="cpu").card
    assert "such as model.layers.2" in card.remark


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "no-such-family"},
        {"hidden_size": "wide"},
        {"hidden_size": 0},
        {"num_attention_heads": 0},
        {"rope_parameters": {"rope_type": "no-such-rope"}},
    ],
)
def test_a_config_that_makes_no_sense(folder, changes):
    rewrite_config(folder, **changes)
    assert "cannot be opened" in refusal(folder)


def test_a_config_that_brings_its_own_code_is_not_run(folder):
    code = "raise SystemExit('code from the folder was run')"
    (folder / "modeling.py").write_text(code)
    own = {"AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.Model"}
    rewrite_config(folder, model_type="no-such-family", auto_map=own)
    assert "cannot be opened" in refusal(folder)


@pytest.mark.parametrize("config", [transformers.BertConfig, transformers.RobertaConfig])
def test_an_encoder(tmp_path, config):
    encoder = transformers.AutoModelForMaskedLM.from_config(small(config))
    encoder.save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    assert "is an encoder" in refusal(tmp_path)


def test_an_encoder_and_decoder(tmp_path):
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    config.vocab_size = 50
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    assert "encoder-decoder" in refusal(tmp_path)


def test_a_model_of_pictures(tmp_path):
    config = small(transformers.ViTConfig, image_size=4, patch_size=2)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    assert "not a decoder-only language model" in refusal(tmp_path)


def small(config, **more):
    return config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        **more,
    )


def test_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{}", '{"model": {"type": "BPE"}}'])
def test_a_tokenizer_that_is_damaged(folder, text):
    (folder / "tokenizer.json").write_text(text)
    assert "tokenizer" in refusal(folder)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "cpu:x", ""])
def test_a_device_that_is_not_here(folder, device):
    assert "no device" in refusal(folder, device=device)


def test_a_dtype_that_does_not_exist(folder):
    assert "'float7'" in refusal(folder, dtype="float7")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
    ],
)
def test_too_little_memory(folder, monkeypatch, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", fail)
    assert "not enough memory" in refusal(folder)


def test_what_the_library_prints_is_restored_after_a_failure(folder):
    before = transformers.utils.logging.get_verbosity()
    rewrite_config(folder, model_type="no-such-family")
    refusal(folder)
    assert transformers.utils.logging.get_verbosity() == before

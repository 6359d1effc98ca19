"""SAEs of dictionary_learning: its own classes against ours, on the files they load."""

import json

import pytest
import torch
from peers import assert_same, assert_same_features, decoder_rows, numbers, peer, residuals

from microscope.engine.saes.dictionary_learning import DICTIONARY_LEARNING

dictionary_learning = peer("dictionary_learning")
trainers = peer("dictionary_learning.trainers")
classes = {
    name: getattr(peer(module), name)
    for module, name in (
        ("dictionary_learning.dictionary", "AutoEncoder"),
        ("dictionary_learning.dictionary", "AutoEncoderNew"),
        ("dictionary_learning.dictionary", "GatedAutoEncoder"),
        ("dictionary_learning.dictionary", "JumpReluAutoEncoder"),
        ("dictionary_learning.trainers.top_k", "AutoEncoderTopK"),
        ("dictionary_learning.trainers.batch_top_k", "BatchTopKSAE"),
        ("dictionary_learning.trainers.matryoshka_batch_top_k", "MatryoshkaBatchTopKSAE"),
    )
}

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

D, N, K = 16, 40, 6
CPU = torch.device("cpu")
ARGUMENTS = {
    "AutoEncoderTopK": {"k": K},
    "BatchTopKSAE": {"k": K},
    "MatryoshkaBatchTopKSAE": {"k": K, "group_sizes": [8, 12, 20]},
}


@torch.no_grad()
def saved(folder, name):
    """A folder in their layout, whose weights are a state of their own class."""
    dictionary = classes[name](D, N, **ARGUMENTS.get(name, {}))
    for number, parameter in enumerate(dictionary.parameters()):
        scale = 0.5 if parameter.dim() > 1 else 0.3
        parameter.copy_(numbers(*parameter.shape, seed=number, scale=scale))
    rows = decoder_rows(N, D)
    if hasattr(dictionary, "decoder"):
        dictionary.decoder.weight.copy_(rows.T)
    else:
        dictionary.W_dec.copy_(rows)
    if hasattr(dictionary, "threshold"):
        dictionary.threshold.copy_(dictionary.threshold.abs().clamp_min(0.6))
    folder.mkdir(exist_ok=True)
    torch.save(dictionary.state_dict(), folder / "ae.pt")
    trainer = {"dict_class": name, "activation_dim": D, "dict_size": N, "layer": 3}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    return folder


def read_both(folder, name, **options):
    theirs = classes[name].from_pretrained(str(folder / "ae.pt"), **options)
    return DICTIONARY_LEARNING.read(folder, CPU), theirs


@pytest.mark.parametrize("name", classes)
@torch.no_grad()
def test_every_class_agrees(tmp_path, name):
    # By default their plain autoencoder is rescaled on loading; see the test below.
    options = {"normalize_decoder": False} if name == "AutoEncoder" else {}
    x = residuals(D)
    ours, theirs = read_both(saved(tmp_path, name), name, **options)
    activations, raw = ours.encode(x), theirs.encode(x)
    lengths = decoder_rows(N, D).norm(dim=-1) if ours.card.is_folded else 1
    assert ours.card.is_folded == (name != "AutoEncoderTopK")
    assert_same_features(activations / lengths, raw)
    assert_same(ours.decode(activations, x), theirs.decode(raw))


@torch.no_grad()
def test_their_rescaled_autoencoder_has_our_units(tmp_path):
    ours, theirs = read_both(saved(tmp_path, "AutoEncoder"), "AutoEncoder")
    x = residuals(D)
    assert_same_features(ours.encode(x), theirs.encode(x))
    assert_same(ours.decode(ours.encode(x), x), theirs(x))


@torch.no_grad()
def test_a_gated_dictionary_counted_by_its_rows_has_our_units(tmp_path):
    ours, theirs = read_both(saved(tmp_path, "GatedAutoEncoder"), "GatedAutoEncoder")
    x = residuals(D)
    assert_same_features(ours.encode(x), theirs.encode(x, normalize_decoder=True))

"""`sae inspect` and `library`: what is on the disk, without opening it."""

import json

import pytest
from tiny_saes import save_saelens

from microscope.cli.main import run
from microscope.engine.saes.inspecting import inspect_saes


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MICROSCOPE_HOME", str(tmp_path / "home"))


def test_inspect_says_what_an_sae_is(capsys, tmp_path):
    save_saelens(tmp_path / "sae", "jumprelu", normalize_activations="layer_norm")
    assert run(["sae", "inspect", str(tmp_path / "sae")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == str(tmp_path / "sae")
    (facts,) = report["saes"]
    assert facts == {
        "source": str(tmp_path / "sae"),
        "format": "SAELens",
        "architecture": "jumprelu",
        "site": "blocks.1.hook_resid_post",
        "site_out": "blocks.1.hook_resid_post",
        "d_in": 8,
        "d_out": 8,
        "n_features": 20,
        "activation": "jumprelu",
        "normalisation": {"kind": "layernorm"},
        "subtracts_b_dec": True,
        "dtype": "float32",
        "folded": True,
        "remarks": [],
    }


def test_inspect_goes_on_past_one_that_is_damaged(tmp_path):
    for name in ("a", "b"):
        save_saelens(tmp_path / name)
    (tmp_path / "b" / "sae_weights.safetensors").write_bytes(b"short")
    good, bad = inspect_saes(str(tmp_path))
    assert good["n_features"] == 20
    assert set(bad) == {"source", "problem"}
    assert "not a whole safetensors file" in bad["problem"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "cfg.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / "cfg.json").unlink(), "holds no SAE that can be opened"),
    ],
)
def test_inspect_of_no_sae_is_a_sentence_and_exit_code_2(capsys, tmp_path, spoil, words):
    save_saelens(tmp_path / "sae")
    spoil(tmp_path / "sae")
    assert run(["sae", "inspect", str(tmp_path / "sae")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.startswith("microscope: ")


def test_inspect_of_a_path_that_is_not_there(capsys, tmp_path):
    assert run(["sae", "inspect", str(tmp_path / "nowhere")]) == 2
    assert "There is no" in capsys.readouterr().err


@pytest.fixture
def folders(tmp_path):
    whole, broken = tmp_path / "models" / "whole", tmp_path / "models" / "broken"
    for folder in (whole, broken):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1}')
    header = b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    weights = len(header).to_bytes(8, "little") + header + bytes(12)
    (whole / "model.safetensors").write_bytes(weights)
    return str(tmp_path / "models")


def found(report):
    """Rows of our own folder; this computer's cache may hold more."""
    return {row["name"]: row for row in report["models"] if row["name"] in ("whole", "broken")}


def test_library_lists_models_and_whether_they_fit(capsys, folders):
    assert run(["library", folders, "--json"]) == 0
    rows = found(json.loads(capsys.readouterr().out))
    assert (rows["whole"]["n_parameters"], rows["whole"]["dtype"]) == (3, "float32")
    assert rows["whole"]["verdict"]["choice"] == "float32"
    assert rows["broken"]["verdict"] is None
    assert "has no weights" in rows["broken"]["problem"]


def test_library_is_a_line_a_model_for_people(capsys, folders):
    assert run(["library", folders]) == 0
    out = capsys.readouterr().out
    assert "whole: 0M parameters, float32, 111 bytes on disk. About " in out
    assert "broken: " in out

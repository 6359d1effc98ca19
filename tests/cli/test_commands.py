"""The command line on a tiny model: keys, numbers, exit codes."""

import json
import subprocess
import sys

import pytest
import torch
from tiny_models import D_MODEL, N_LAYERS, tiny_model
from tiny_saes import save_saelens
from transformers import AutoModelForCausalLM

from microscope.cli.main import run
from microscope.cli.snapshot_command import Narrator
from microscope.core.sites import resid_post
from microscope.session.session import EngineState

PROMPT = "The cat on the bridge"
SAE = resid_post(1)


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("MICROSCOPE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model("llama", tmp_path_factory))


@pytest.fixture(scope="module")
def sae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sae")
    metadata = {"sae_lens_version": "6.54.12", "hook_name": SAE}
    save_saelens(folder, d_in=D_MODEL, n_features=40, metadata=metadata)
    return str(folder)


def output_of(capsys, *arguments):
    assert run(list(arguments)) == 0
    return json.loads(capsys.readouterr().out)


def complaint_of(capsys, *arguments):
    assert run(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_read_gives_every_cell_with_the_promised_keys(capsys, model, sae):
    report = output_of(
        capsys, "read", "--model", model, "--sae", sae, "--prompt", PROMPT, "--top", "7"
    )
    assert set(report) == {"model", "tokens", "sites", "lens", "features", "error_share"}
    n_tokens = len(report["tokens"])
    assert set(report["tokens"][0]) == {"id", "text", "special"}
    assert report["tokens"][0]["special"] is True
    assert report["sites"] == ["embed", *(resid_post(layer) for layer in range(N_LAYERS))]
    assert [len(row) for row in report["lens"]] == [n_tokens] * (N_LAYERS + 1)
    cell = report["lens"][-1][-1]
    assert set(cell) == {"logsumexp", "entropy", "top"}
    assert [set(entry) for entry in cell["top"]] == [{"id", "text", "p"}] * 7
    assert set(report["features"]) == set(report["error_share"]) == {SAE}
    assert len(report["features"][SAE]) == len(report["error_share"][SAE]) == n_tokens
    assert set(report["features"][SAE][1][0]) == {"index", "activation", "label"}


def test_read_s_last_row_is_transformers_own_softmax(capsys, model):
    report = output_of(capsys, "read", "--model", model, "--prompt", PROMPT)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = torch.tensor([[token["id"] for token in report["tokens"]]])
    with torch.no_grad():
        logits = network(ids).logits[0]
    expected = logits.softmax(-1)
    for token, cell in enumerate(report["lens"][-1]):
        for entry in cell["top"]:
            assert abs(entry["p"] - expected[token, entry["id"]].item()) < 1e-5
        assert cell["logsumexp"] == pytest.approx(logits[token].logsumexp(-1).item(), rel=1e-5)


def test_generate_without_clamps_equals_transformers(capsys, model):
    report = output_of(
        capsys,
        *("generate", "--model", model, "--prompt", PROMPT),
        *("--temperature", "0", "--max-new-tokens", "9"),
    )
    assert set(report) >= {"prompt_ids", "seed", "sampler", "clamps", "baseline", "steered"}
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = torch.tensor([report["prompt_ids"]])
    expected = network.generate(ids, do_sample=False, max_new_tokens=9, pad_token_id=0)
    assert report["baseline"]["ids"] == expected[0, ids.shape[1] :].tolist()
    assert report["steered"]["ids"] == report["baseline"]["ids"]
    assert report["steered"]["kl"] == [0.0] * len(report["steered"]["ids"])


def test_generate_with_a_clamp_shares_the_draws_and_measures_kl(capsys, model, sae):
    report = output_of(
        capsys,
        *("generate", "--model", model, "--sae", sae, "--prompt", PROMPT, "--seed", "4"),
        *("--clamp", f"{SAE}:3=25", "--clamp", f"{SAE}:5=2@scale", "--max-new-tokens", "12"),
    )
    assert report["seed"] == 4
    assert report["clamps"][1] == {"sae": SAE, "index": 5, "value": 2.0, "mode": "scale"}
    steered = report["steered"]
    assert steered["ids"] != report["baseline"]["ids"]
    assert len(steered["kl"]) == len(steered["ids"])
    assert isinstance(steered["text"], str)


def test_json_goes_to_a_file_too(capsys, model, tmp_path):
    target = tmp_path / "deep" / "out.json"
    assert run(["read", "--model", model, "--prompt", PROMPT, "--json", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(target.read_text())["tokens"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--model", "{tmp}"], "config.json"),
        (["--sae", "/nowhere/sae"], "/nowhere/sae"),
        (["--sae", "{wide}"], str(D_MODEL * 2)),
        (["--prompt", ""], "empty"),
        (["--prompt", "word " * 200], "64"),
        (["--clamp", "nonsense"], "SAE:INDEX=VALUE"),
        (["--clamp", f"{SAE}:40=1", "--sae", "{sae}"], "40"),
        (["--clamp", "other:1=1", "--sae", "{sae}"], SAE),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_two(
    capsys, model, sae, tmp_path, arguments, words
):
    wide = tmp_path / "wide"
    metadata = {"sae_lens_version": "6.54.12", "hook_name": SAE}
    save_saelens(wide, d_in=D_MODEL * 2, n_features=40, metadata=metadata)
    filled = [part.format(tmp=tmp_path, wide=wide, sae=sae) for part in arguments]
    for command in ("read", "generate"):
        base = [command, "--model", model, "--prompt", PROMPT, *filled]
        assert words in complaint_of(capsys, *base)


@pytest.mark.parametrize(
    ("option", "value"), [("--temperature", "-1"), ("--top-p", "0"), ("--min-p", "2")]
)
def test_a_sampler_setting_out_of_range_is_named(capsys, model, option, value):
    name = option.strip("-")
    said = complaint_of(capsys, "generate", "--model", model, "--prompt", PROMPT, option, value)
    assert name in said


@pytest.mark.parametrize("command", ["read", "generate", "snapshot", "doctor", "open", ""])
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as done:
        run([*filter(None, [command]), "--help"])
    assert done.value.code == 0
    assert "usage: microscope" in capsys.readouterr().out


def test_doctor_reports_versions_devices_memory_and_paths():
    done = subprocess.run(
        [sys.executable, "-m", "microscope", "doctor"], capture_output=True, check=False
    )
    report = json.loads(done.stdout)
    assert {"microscope", "libraries", "devices", "memory", "paths", "problems"} <= set(report)
    assert "cpu" in report["devices"]["available"]
    assert done.returncode == (1 if report["problems"] else 0)


def test_snapshot_is_a_picture_of_the_window(model, sae, tmp_path):
    picture = tmp_path / "window.png"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "microscope", "snapshot", "--out", str(picture)),
            *("--model", model, "--sae", sae, "--prompt", PROMPT, "--select", f"2:{SAE}"),
            *("--clamp", f"{SAE}:3=25", "--size", "1280x800", "--theme", "light"),
            *("--max-new-tokens", "8", "--print-texts"),
        ],
        capture_output=True,
        check=False,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"baseline: {PROMPT}")
    assert "Opening the model\n" in done.stderr
    assert f"steered: {PROMPT}" in done.stdout
    from PySide6.QtGui import QImage

    image = QImage(str(picture))
    assert (image.width(), image.height()) == (1280, 800)


def test_the_narrator_says_a_thing_once_and_a_long_step_in_fifths(capsys):
    narrator = Narrator()
    for done in range(0, 101, 3):
        narrator.tell(EngineState("loading", "Training", done, 100))
    narrator.tell(EngineState("ready", "Ready"))
    narrator.tell(EngineState("ready", "Ready"))
    said = capsys.readouterr().err.splitlines()
    assert said == [*(f"Training {part} %" for part in (0, 20, 40, 60, 80)), "Ready"]


def test_snapshot_of_a_missing_model_is_a_sentence(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "microscope", "snapshot", "--model", "/nowhere"),
            *("--out", str(tmp_path / "x.png")),
        ],
        capture_output=True,
        check=False,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2
    assert "/nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.png").exists()

"""A tiny specimen, from nothing to files that everybody can read."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from specimen_fixture import tiny_specimen_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from microscope.core.errors import FileNotWritten
from microscope.core.features import Clamp, FeatureId
from microscope.engine.clamping import ClampSet, clamped, editable_positions
from microscope.engine.language_model import LanguageModel
from microscope.engine.saes.loading import open_sae
from microscope.specimen import build as building
from microscope.specimen.__main__ import main
from microscope.specimen.activations import collect_residuals, hooked, residuals_after_blocks
from microscope.specimen.build import build
from microscope.specimen.model import held_out_loss, token_rows
from microscope.specimen.recipe import TINY
from microscope.specimen.saes import Sae, measure
from microscope.specimen.steering import HeldRows, Hold, write
from microscope.specimen.text import documents
from microscope.storage.feature_pages import FeaturePages

if TYPE_CHECKING:
    from pathlib import Path

SITES = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]


def _no_progress(_text: str, _done: int, _total: int) -> None:
    pass


class _Stopped(Exception):
    pass


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tiny_specimen_folder(tmp_path_factory.mktemp("specimen"))


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return token_rows(tokenizer, [d.text for d in documents(60, seed=77)])


def _sae(folder: Path, site: str) -> Sae:
    w = load_file(folder / "saes" / site / "sae_weights.safetensors")
    return Sae(w["W_enc"], w["b_enc"], w["W_dec"], w["b_dec"], w["threshold"])


def test_the_folder_is_an_ordinary_model_with_saes_pages_and_demonstrations(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    saes = {
        f"saes/{site}/{name}"
        for site in SITES
        for name in ("cfg.json", "sae_weights.safetensors")
    }
    ordinary = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    own = {"generation_config.json", "pages.sqlite", "demos.json", "specimen.json"}
    own.add("checkup.json")
    assert names == saes | ordinary | own


def test_any_text_is_tokenised_with_one_bos_and_comes_back(tokenizer):
    for text in ("The Golden Gate Bridge is", "", "naïve 日本 \U0001f98a\n\tx = {1}"):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_model_has_learnt_the_text(model, rows):
    # A model that knows only how often each token occurs is at 5.3 nats; this one reaches 3.5.
    assert held_out_loss(model, rows) < 4.2
    assert model.config.tie_word_embeddings


def test_the_saes_explain_most_of_the_variance(folder, model, rows):
    x = collect_residuals(model, rows, 100_000)
    for layer, site in enumerate(SITES):
        quality = measure(_sae(folder, site), x[layer])
        assert quality.explained_variance > 0.6
        assert 2 < quality.l0 < 16
        assert quality.dead_share < 0.2


@pytest.mark.parametrize("site", SITES)
def test_the_saes_are_in_saelens_layout_with_unit_decoder_rows(folder, site):
    sae = _sae(folder, site)
    assert sae.w_enc.shape == (TINY.model.d_model, TINY.saes.n_features)
    torch.testing.assert_close(sae.w_dec.norm(dim=1), torch.ones(TINY.saes.n_features))
    config = json.loads((folder / "saes" / site / "cfg.json").read_text())
    assert config["architecture"] == "jumprelu"
    assert config["metadata"]["hook_name"] == site
    assert config["metadata"]["prepend_bos"] is True


def test_position_0_is_left_out_of_the_residuals(model, rows):
    x = collect_residuals(model, rows[:1], 100_000)
    expected = residuals_after_blocks(model, torch.tensor(rows[:1]))
    assert x.shape[1] == len(rows[0]) - 1
    torch.testing.assert_close(x[0], expected[0][0, 1:])


def test_every_feature_has_a_page_and_some_have_good_labels(folder):
    with FeaturePages(folder / "pages.sqlite") as store:
        for site in SITES:
            pages = store.pages_of(site)
            assert list(pages) == list(range(TINY.saes.n_features))
            assert all(0 <= page.density <= 1 for page in pages.values())
            assert max(page.label_score or 0 for page in pages.values()) > 0.5


def test_a_page_tells_the_feature_s_largest_activation(folder, model, tokenizer):
    held_out = documents(TINY.n_held_out, TINY.seed, first=1_000_000_000)
    rows = [row[:-1] for row in token_rows(tokenizer, [d.text for d in held_out])]
    f = _sae(folder, SITES[1]).encode(collect_residuals(model, rows, 100_000)[1])
    with FeaturePages(folder / "pages.sqlite") as store:
        pages = store.pages_of(SITES[1])
    measured = torch.tensor([pages[index].max_activation for index in range(f.shape[1])])
    torch.testing.assert_close(measured, f.amax(0), rtol=1e-4, atol=1e-3)
    density = torch.tensor([pages[index].density for index in range(f.shape[1])])
    torch.testing.assert_close(density, (f > 0).float().mean(0), rtol=0, atol=1e-3)


def test_demonstrations_name_features_and_their_values(folder):
    rows = json.loads((folder / "demos.json").read_text())
    assert rows
    with FeaturePages(folder / "pages.sqlite") as store:
        for row in rows:
            page = store.page(FeatureId(row["sae"], row["index"]))
            assert page.label == row["label"]
            assert row["value"] == pytest.approx(2 * page.max_activation, abs=0.01)


def test_the_engine_opens_the_folder_and_encodes_and_clamps_as_we_do(folder, model, rows):
    ours, ids = _sae(folder, SITES[1]), torch.tensor(rows[:1])
    opened = LanguageModel.open(str(folder))
    theirs = open_sae(str(folder / "saes" / SITES[1]), opened)
    x = collect_residuals(model, rows[:2], 1000)[1]
    torch.testing.assert_close(theirs.encode(x), ours.encode(x), rtol=1e-4, atol=1e-4)

    held = ClampSet.of([Clamp(FeatureId(SITES[1], 5), 7.0)], {SITES[1]: theirs})
    editable = editable_positions(ids, opened.special_ids)
    with torch.no_grad(), clamped(opened.anatomy, held, editable):
        expected = opened.network(ids).logits
    with torch.no_grad(), hooked(model, 1, HeldRows(ours, [Hold(5, 7.0)])):
        got = model(ids).logits
    # They leave the special token at the end alone, too.
    torch.testing.assert_close(got[:, :-1], expected[:, :-1], rtol=1e-4, atol=1e-4)


def test_a_row_without_a_hold_is_the_model_s_own_text(folder, model, tokenizer):
    sae = _sae(folder, SITES[1])
    both = partial(
        write, model, tokenizer, "One day Tom", sae, 1, n_texts=2, n_new_tokens=12, seed=4
    )
    alone = both([None])
    assert both([None, Hold(0, 50.0)])[:2] == alone
    assert len(set(alone)) == 2


def test_holding_a_feature_changes_the_text(folder, model, tokenizer):
    with FeaturePages(folder / "pages.sqlite") as store:
        page = max(store.pages_of(SITES[1]).values(), key=lambda page: page.max_activation)
    hold = Hold(page.feature.index, 4 * page.max_activation)
    sae = _sae(folder, SITES[1])
    before, after = write(
        model,
        tokenizer,
        "One day Tom",
        sae,
        1,
        [None, hold],
        n_texts=1,
        n_new_tokens=12,
        seed=4,
    )
    assert before != after


@pytest.mark.parametrize("stage", ["Writing the text", "Training the model"])
def test_an_interrupted_build_leaves_nothing_half_made(tmp_path, stage):
    def stop(text: str, _done: int, _total: int) -> None:
        if text == stage:
            raise _Stopped

    with pytest.raises(_Stopped):
        build(replace(TINY, n_documents=40), tmp_path / "specimen", stop)
    assert not list(tmp_path.iterdir())


def test_a_failed_build_keeps_the_last_good_folder(tmp_path):
    good = tmp_path / "specimen"
    good.mkdir()
    (good / "config.json").write_text("good")

    def fail(_text: str, _done: int, _total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(FileNotWritten, match="No space left on device"):
        build(TINY, good, fail)
    assert (good / "config.json").read_text() == "good"
    assert [path.name for path in tmp_path.iterdir()] == ["specimen"]


def test_the_last_of_two_builds_stays_whole(tmp_path):
    folder = tmp_path / "specimen"
    with (
        building._building_folder(folder) as first,
        building._building_folder(folder) as second,
    ):
        assert first != second
        for place, name in ((first, "first"), (second, "second")):
            (place / "config.json").write_text(name)
        building._publish(first, folder)
        assert (folder / "config.json").read_text() == "first"
        building._publish(second, folder)
    assert (folder / "config.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["specimen"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["build", "--recipe", "tiny", "--folder", str(tmp_path / "file" / "x")]) == 2
    assert "could not be written" in capsys.readouterr().err

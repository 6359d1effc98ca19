import json
import shutil

import pytest
import torch
from tiny_models import (
    ADDS_OWN_BOS,
    CONTEXT,
    FAMILIES,
    SENTENCEPIECE,
    WITHOUT_BOS,
    open_tiny_model,
    save_tiny_model,
    tiny_model,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from microscope.core.errors import PromptRejected
from microscope.core.prompts import Prompt
from microscope.engine.language_model import LanguageModel

TEXT = "The lamp on the harbour wall turns all night"


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def model(family, tmp_path_factory):
    return open_tiny_model(family, tmp_path_factory)


@pytest.fixture
def llama(tmp_path_factory):
    return open_tiny_model("llama", tmp_path_factory)


def folder_with(family, tmp_path_factory, file_name, **changes):
    """A copy of a tiny model in which some keys of a JSON file are other ones."""
    folder = tmp_path_factory.mktemp(family) / "model"
    shutil.copytree(tiny_model(family, tmp_path_factory), folder)
    path = folder / file_name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


class TestBos:
    def test_there_is_exactly_one_at_the_start_where_the_model_wants_one(self, model, family):
        ids = model.tokenise(Prompt(TEXT))
        if family in WITHOUT_BOS:
            assert model.bos_id is None
            assert not set(ids) & model.special_ids
        else:
            assert ids[0] == model.bos_id
            assert ids.count(model.bos_id) == 1
        assert model.text(ids) == TEXT

    @pytest.mark.parametrize("family", [f for f in FAMILIES if f not in WITHOUT_BOS])
    def test_one_that_was_typed_is_not_doubled(self, model):
        bos = model.token(model.bos_id).text
        typed = model.tokenise(Prompt(bos + TEXT))
        assert typed == model.tokenise(Prompt(TEXT))
        assert model.tokenise(Prompt(bos + bos + TEXT)) == typed
        assert model.tokenise(Prompt(bos)) == (model.bos_id,)

    def test_a_chat_has_those_that_its_template_writes(self, model, family):
        ids = model.tokenise(Prompt(TEXT, is_chat=True))
        tokenizer = AutoTokenizer.from_pretrained(model.card.source)
        expected = tokenizer.apply_chat_template(
            [{"role": "user", "content": TEXT}], add_generation_prompt=True, return_dict=False
        )
        assert list(ids) == expected
        assert ids.count(model.bos_id) == (1 if family in (*ADDS_OWN_BOS, "gpt2") else 0)

    def test_a_qwen_gets_none_even_where_its_tokenizer_names_one(self, tmp_path):
        config = Qwen2Config(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=16,
        )
        model = LanguageModel.open(str(save_tiny_model(tmp_path, config, "gpt2")), "cpu")
        assert model.bos_id is None
        assert not set(model.tokenise(Prompt(TEXT))) & model.special_ids

    def test_one_inside_the_text_is_left_there(self, llama):
        bos = llama.token(llama.bos_id).text
        ids = llama.tokenise(Prompt(f"The lamp{bos}and the cat"))
        assert ids.count(llama.bos_id) == 2


class TestPrompts:
    def test_ids_are_used_as_they_stand(self, llama):
        assert llama.tokenise(Prompt("anything", ids=(5, 5, 6))) == (5, 5, 6)

    @pytest.mark.parametrize(
        "prompt", [Prompt(""), Prompt("", is_chat=True), Prompt("a", ids=())]
    )
    def test_an_empty_one_is_refused(self, llama, prompt):
        with pytest.raises(PromptRejected, match="empty"):
            llama.tokenise(prompt)

    def test_one_that_is_no_unicode_is_refused(self, llama):
        with pytest.raises(PromptRejected, match="Unicode"):
            llama.tokenise(Prompt("a \udcff"))

    def test_one_beyond_the_context_is_refused_with_both_numbers(self, llama):
        assert llama.context_length == CONTEXT
        assert len(llama.tokenise(Prompt("", ids=(5,) * CONTEXT))) == CONTEXT
        with pytest.raises(PromptRejected, match=rf"{CONTEXT + 1} tokens.*most {CONTEXT}\b"):
            llama.tokenise(Prompt("", ids=(5,) * (CONTEXT + 1)))

    @pytest.mark.parametrize("stray", [-1, 336])
    def test_an_id_outside_the_vocabulary_is_refused(self, llama, stray):
        assert llama.card.n_vocabulary == 336
        with pytest.raises(PromptRejected, match=rf"{stray}.*0 to 335"):
            llama.tokenise(Prompt("", ids=(5, stray)))

    def test_a_long_text_is_refused_without_a_word_on_the_terminal(self, llama, capfd):
        with pytest.raises(PromptRejected, match="Shorten the prompt"):
            llama.tokenise(Prompt(TEXT * 9))
        assert capfd.readouterr() == ("", "")

    def test_a_chat_without_a_template_is_refused(self, tmp_path_factory):
        source = tiny_model("llama", tmp_path_factory)
        folder = tmp_path_factory.mktemp("plain") / "model"
        shutil.copytree(source, folder)
        (folder / "chat_template.jinja").unlink()
        model = LanguageModel.open(str(folder), device="cpu")
        assert not model.card.has_chat_template
        with pytest.raises(PromptRejected, match="no chat template"):
            model.tokenise(Prompt(TEXT, is_chat=True))

    def test_a_template_that_fails_is_a_sentence(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("broken") / "model"
        shutil.copytree(tiny_model("llama", tmp_path_factory), folder)
        (folder / "chat_template.jinja").write_text("{{ raise_exception('no user turns') }}")
        model = LanguageModel.open(str(folder), device="cpu")
        with pytest.raises(PromptRejected, match="no user turns"):
            model.tokenise(Prompt(TEXT, is_chat=True))


class TestTokens:
    def test_spaces_before_words_are_kept(self, model):
        texts = [model.token(i).text for i in model.tokenise(Prompt("the boats and the cat"))]
        assert " the" in texts
        assert " and" in texts

    def test_part_of_a_character_is_shown_as_its_bytes(self, model):
        *_, f0, n9f, a6, n86 = model.tokenise(Prompt("see 🦆"))
        shown = [model.token(i).text for i in (f0, n9f, a6, n86)]
        assert shown == ["⟨f0⟩", "⟨9f⟩", "⟨a6⟩", "⟨86⟩"]
        assert model.text((f0, n9f, a6, n86)) == "🦆"

    def test_special_ones_are_told_apart(self, model):
        specials = {i for i in range(model.card.n_vocabulary) if model.token(i).is_special}
        tokenizer = AutoTokenizer.from_pretrained(model.card.source)
        assert specials == set(tokenizer.all_special_ids)
        assert specials == model.special_ids

    def test_an_id_of_no_token_is_named_by_its_number(self, llama):
        assert llama.token(335).text == "⟨id 335⟩"

    def test_every_id_has_some_text(self, model):
        assert all(model.token(i).text for i in range(model.card.n_vocabulary))

    @pytest.mark.parametrize("text", ["  two  spaces ", "a\n\n\tb", "naïve café 🦆!"])
    def test_text_comes_back_as_it_was_typed(self, model, text):
        assert model.text(model.tokenise(Prompt(text))) == text

    def test_the_mark_for_a_space_is_one_only_where_the_tokenizer_means_it(self, model, family):
        expected = "a b" if family in SENTENCEPIECE else "a▁b"
        assert model.text(model.tokenise(Prompt("a▁b"))) == expected

    def test_text_in_pieces_is_the_text_of_the_whole(self, model):
        ids = model.tokenise(Prompt(TEXT))
        for n in range(2, len(ids)):  # BOS alone does not tell where the text begins
            assert model.text(ids[:n]) + model.text(ids[n:]) == TEXT

    def test_special_tokens_are_no_part_of_the_text(self, llama):
        ids = llama.tokenise(Prompt(TEXT))
        (eos,) = llama.eos_ids
        assert llama.text((*ids[:4], eos, *ids[4:], eos)) == TEXT

    def test_ends_are_those_of_the_tokenizer_and_of_the_settings(self, tmp_path_factory):
        folder = folder_with(
            "llama", tmp_path_factory, "generation_config.json", eos_token_id=[7, 9]
        )
        model = LanguageModel.open(str(folder), device="cpu")
        assert model.eos_ids == {7, 9, 331}
        assert model.special_ids >= model.eos_ids


class TestSteps:
    def test_logits_are_those_of_transformers(self, model):
        ids = torch.tensor([model.tokenise(Prompt(TEXT))])
        plain = AutoModelForCausalLM.from_pretrained(model.card.source)
        with torch.no_grad():
            expected = plain(input_ids=ids).logits
        torch.testing.assert_close(model.step(ids, keep=0), expected)
        torch.testing.assert_close(model.step(ids, keep=3), expected[:, -3:])

    def test_cached_steps_equal_one_pass(self, model):
        ids = torch.tensor([model.tokenise(Prompt(TEXT))])
        cache = model.new_cache()
        stepped = [model.step(ids[:, :12], cache, keep=0)]
        stepped += [model.step(ids[:, n : n + 1], cache) for n in range(12, ids.shape[1])]
        whole = model.step(ids, keep=0)
        torch.testing.assert_close(torch.cat(stepped, 1), whole, atol=1e-4, rtol=1e-4)

    def test_a_cropped_cache_goes_on_as_if_never_longer(self, model):
        ids = torch.tensor([model.tokenise(Prompt(TEXT))])
        cache = model.new_cache()
        model.step(ids, cache)
        cache.crop(-(ids.shape[1] - 10))
        again = model.step(ids[:, 10:13], cache, keep=0)
        expected = model.step(ids[:, :13], keep=3)
        torch.testing.assert_close(again, expected, atol=1e-4, rtol=1e-4)

    def test_rows_do_not_touch_each_other(self, model):
        ids = torch.tensor([model.tokenise(Prompt(TEXT))])
        other = ids.flip(1)
        both = model.step(torch.cat((ids, other)), keep=2)
        torch.testing.assert_close(both[:1], model.step(ids, keep=2), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(both[1:], model.step(other, keep=2), atol=1e-4, rtol=1e-4)

    def test_half_precision_gives_float32_logits_and_an_exact_lens(self, tmp_path_factory):
        folder = tiny_model("gemma2", tmp_path_factory)
        model = LanguageModel.open(str(folder), device="cpu", dtype="bfloat16")
        assert model.card.dtype == "bfloat16"
        assert model.card.is_exact
        assert model.step(torch.tensor([[5, 6]])).dtype == torch.float32


class TestOpening:
    def test_the_card_says_what_was_opened(self, tmp_path_factory):
        folder = tiny_model("gpt2", tmp_path_factory)
        card = open_tiny_model("gpt2", tmp_path_factory).card
        assert (card.name, card.source) == ("tiny-gpt2", str(folder))
        assert (card.architecture, card.dtype, card.device) == ("GPT-2", "float32", "cpu")
        assert (card.n_layers, card.d_model, card.context_length) == (3, 32, CONTEXT)
        assert card.n_vocabulary == 335
        network = AutoModelForCausalLM.from_pretrained(folder)
        assert card.n_parameters == network.num_parameters()
        assert card.has_chat_template
        assert card.remark == ""

    def test_a_hub_id_is_found_in_the_cache_of_this_computer(
        self, tmp_path, tmp_path_factory, monkeypatch
    ):
        cached = tmp_path / "models--somebody--tiny"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("0123abcd")
        shutil.copytree(
            tiny_model("llama", tmp_path_factory), cached / "snapshots" / "0123abcd"
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        card = LanguageModel.open("somebody/tiny", device="cpu").card
        assert (card.name, card.source) == ("somebody/tiny", "somebody/tiny")

    def test_the_network_is_for_reading_only(self, model):
        assert not model.network.training
        assert not any(weight.requires_grad for weight in model.network.parameters())

    def test_bfloat16_weights_are_opened_as_float32_on_the_cpu(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("half") / "model"
        shutil.copytree(tiny_model("llama", tmp_path_factory), folder)
        network = AutoModelForCausalLM.from_pretrained(folder).bfloat16()
        network.save_pretrained(folder)
        model = LanguageModel.open(str(folder), device="cpu")
        assert model.card.dtype == "float32"
        assert model.card.is_exact

    def test_progress_is_told_and_nothing_is_printed(self, tmp_path_factory, capfd):
        said = []
        folder = tiny_model("llama", tmp_path_factory)
        LanguageModel.open(str(folder), "cpu", on_progress=lambda *step: said.append(step))
        assert [done for _, done, _ in said] == [0, 1, 2, 3]
        assert {total for *_, total in said} == {4}
        assert capfd.readouterr() == ("", "")

    def test_a_lens_that_is_not_exact_is_admitted(self, tmp_path_factory, monkeypatch):
        folder = tiny_model("gemma2", tmp_path_factory)
        name = "microscope.engine.architectures.anatomy.Anatomy.finish_logits"
        monkeypatch.setattr(name, lambda _anatomy, logits: logits)  # the soft-cap forgotten
        card = LanguageModel.open(str(folder), device="cpu").card
        assert not card.is_exact
        assert "differs from the model's own logits" in card.remark

"""Tiny random models of every family, as folders with weights and a tokenizer.

Random, but loud: weights are large enough that no distribution is flat. Made once a session.
"""

import gc
import json

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from microscope.engine.language_model import LanguageModel

D_MODEL, N_LAYERS, N_HEADS, D_MLP, CONTEXT = 32, 3, 4, 48, 64

TEXT = (
    "The lamp on the harbour wall turns all night, and the boats come home by it.",
    "A cook peels apples, red and green, and the cat watches from the warm stove.",
    "Snow fell on the bridge; nobody crossed it before the morning bus.",
    "Say what you see, then say how sure you are. 🦆 naïve café, 12 + 30 = 42.",
)

_SHAPE = {
    "hidden_size": D_MODEL,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "intermediate_size": D_MLP,
    "max_position_embeddings": CONTEXT,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2}
_HEADS = {**_GROUPED, "head_dim": 8}
_GEMMA = {**_HEADS, "query_pre_attn_scalar": 8}

_CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=D_MODEL, n_layer=N_LAYERS, n_head=N_HEADS, n_positions=CONTEXT
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_SHAPE),
    "llama": lambda: transformers.LlamaConfig(**_GROUPED),
    "qwen2": lambda: transformers.Qwen2Config(**_GROUPED),
    "qwen3": lambda: transformers.Qwen3Config(**_HEADS),
    "mistral": lambda: transformers.MistralConfig(**_HEADS, sliding_window=8),
    "gemma": lambda: transformers.GemmaConfig(**_HEADS),
    "gemma2": lambda: transformers.Gemma2Config(
        **_GEMMA, sliding_window=8, final_logit_softcapping=5.0
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **_GEMMA,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "phi": lambda: transformers.PhiConfig(**_SHAPE),
    "phi3": lambda: transformers.Phi3Config(**_GROUPED),
}

FAMILIES = tuple(_CONFIGS)
"""The families of `tiny_model`."""

ADDS_OWN_BOS = ("llama", "mistral", "gemma", "gemma2", "gemma3", "phi3")
WITHOUT_BOS = ("qwen2", "qwen3")
SENTENCEPIECE = ("mistral", "gemma", "gemma2", "gemma3")

_SPECIALS = {  # BOS, EOS, start of a turn
    "gpt2": ("<|endoftext|>", "<|endoftext|>", "<|turn|>"),
    "gpt_neox": ("<|endoftext|>", "<|endoftext|>", "<|turn|>"),
    "phi": ("<|endoftext|>", "<|endoftext|>", "<|turn|>"),
    "llama": ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>"),
    "qwen2": (None, "<|endoftext|>", "<|im_start|>"),
    "qwen3": (None, "<|endoftext|>", "<|im_start|>"),
    "mistral": ("<s>", "</s>", "[INST]"),
    "phi3": ("<s>", "<|endoftext|>", "<|user|>"),
    "gemma": ("<bos>", "<eos>", "<start_of_turn>"),
    "gemma2": ("<bos>", "<eos>", "<start_of_turn>"),
    "gemma3": ("<bos>", "<eos>", "<start_of_turn>"),
}


_OPEN = {}


def tiny_model(family, tmp_path_factory):
    """The folder of a tiny random model of a family, the same one all session long."""
    folder = tmp_path_factory.getbasetemp() / f"tiny-{family}"
    if not folder.exists():
        save_tiny_model(folder, _CONFIGS[family](), family)
    return folder


def open_tiny_model(family, tmp_path_factory):
    """The tiny model of a family, opened; for tests that leave it as they found it."""
    folder = tiny_model(family, tmp_path_factory)
    if folder not in _OPEN:
        _OPEN[folder] = LanguageModel.open(str(folder), device="cpu")
    return _OPEN[folder]


def save_tiny_model(folder, config, family="llama"):
    """Save a random network of `config` with the tokenizer of a family."""
    tokenizer = tiny_tokenizer(family)
    config.get_text_config().vocab_size = (
        len(tokenizer) + 3
    )  # a few rows that no token uses, as many models have
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = None
    transformers.utils.logging.disable_progress_bar()
    network = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    make_loud(network)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    gc.freeze()  # so that the collection after every test need not walk through torch again
    return folder


def make_loud(network, seed=0):
    """Give every weight a random value; distributions become uneven, norms stay sane."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() == 1 and ("norm" in name or "ln_" in name):
                # Loud enough to drown the large embedding in families with a norm there.
                weight.add_(0.2 * noise + (4.0 if "post_feedforward" in name else 0.0))
            else:
                weight.copy_((0.4 if weight.dim() > 1 else 0.1) * noise)


def tiny_tokenizer(family):
    """A BPE tokenizer in the manner of a family: its special tokens, and a chat template."""
    bos, eos, turn = _SPECIALS[family]
    backend = _sentencepiece(family) if family in SENTENCEPIECE else _byte_level()
    specials = [token for token in dict.fromkeys((bos, eos, turn)) if token]
    backend.add_special_tokens(specials)
    if family in ADDS_OWN_BOS:
        backend.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        additional_special_tokens=[turn],
        model_max_length=CONTEXT,
    )
    start = bos if family in (*ADDS_OWN_BOS, "gpt2") else ""
    tokenizer.chat_template = (
        start + turn + "{% for message in messages %}{{ message['role'] + '\n' + "
        "message['content'] }}{% endfor %}{% if add_generation_prompt %}\nmodel\n{% endif %}"
    )
    return tokenizer


def _byte_level():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT, trainer)
    return backend


def _sentencepiece(family):
    """Pieces with "▁" for a space and `<0xE2>` for bytes without a piece, as in Llama 2."""
    marks_first_word = family == "mistral"
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=120, show_progress=False)
    trained.train_from_iterator([text.replace("🦆", "") for text in TEXT], trainer)
    model = json.loads(trained.to_str())["model"]
    vocab = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    for piece in sorted(model["vocab"], key=model["vocab"].get):
        vocab.setdefault(piece, len(vocab))
    merges = [tuple(merge) for merge in model["merges"]]
    backend = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>")
    )
    to_mark = normalizers.Replace(" ", "▁")
    to_space = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if marks_first_word:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), to_mark])
        backend.decoder = decoders.Sequence([*to_space, decoders.Strip(" ", 1, 0)])
    else:
        backend.normalizer = to_mark
        backend.decoder = decoders.Sequence(to_space)
    return backend

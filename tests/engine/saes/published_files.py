"""A small good SAE in every published layout: what hostile files are made from.

Each function writes into an empty folder and returns the path to open. Settings, weights and
names are those of the layout; numbers are random.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

D, N, N_LAYERS = 32, 40, 3
RESID = "blocks.1.hook_resid_post"
YAML = "model_kind: {}\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: mlp.hook_out\n"


def numbers(*shape):
    """Random float32; the same for the same shape."""
    scale = 0.3 if len(shape) > 1 else 0.05
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))) * scale


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_tensors(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(tensors, str(path))
    elif path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    else:
        torch.save(tensors, path)
    return path


def matrices(prefix="W_", linear=False):
    """Encoder and decoder with their biases, inputs first; or as they are in linear layers."""
    if linear:
        return {
            "encoder.weight": numbers(N, D),
            "encoder.bias": numbers(N),
            "decoder.weight": numbers(D, N),
            "decoder.bias": numbers(D),
        }
    named = {f"{prefix}enc": numbers(D, N), f"{prefix}dec": numbers(N, D)}
    return named | {"b_enc": numbers(N), "b_dec": numbers(D)}


def threshold():
    return {"threshold": numbers(N).abs()}


def saelens(root):
    settings = {"architecture": "jumprelu", "d_in": D, "d_sae": N, "hook_name": RESID}
    write_json(root / "cfg.json", settings)
    write_tensors(root / "sae_weights.safetensors", matrices() | threshold())
    return root


def gemma_scope(root):
    path = root / "gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_71/params.npz"
    return write_tensors(path, matrices() | threshold())


def gemma_scope_2(root):
    folder = root / "resid_post/layer_1_width_16k_l0_small"
    write_json(folder / "config.json", {"hf_hook_point_in": "model.layers.1.output"})
    write_tensors(folder / "params.safetensors", matrices("w_") | threshold())
    return folder


def gemma_scope_2_clt(root):
    folder = root / "clt/width_262k_l0_medium"
    for layer in range(2):
        tensors = matrices("w_") | threshold() | {"w_dec": numbers(N, N_LAYERS, D)}
        path = write_tensors(folder / f"params_layer_{layer}.safetensors", tensors)
    return path


def sparsify(root):
    folder = root / "layers.1"
    write_json(folder / "cfg.json", {"d_in": D, "num_latents": N, "k": 4})
    linear = matrices(linear=True)
    names = ("encoder.weight", "encoder.bias")
    tensors = {name: linear[name] for name in names}
    tensors |= {"W_dec": numbers(N, D), "b_dec": numbers(D)}
    write_tensors(folder / "sae.safetensors", tensors)
    return folder


def dictionary_learning(root):
    folder = root / "resid_post_layer_1/trainer_0"
    trainer = {"dict_class": "AutoEncoder", "activation_dim": D, "dict_size": N, "layer": 1}
    write_json(folder / "config.json", {"trainer": trainer})
    tensors = matrices(linear=True)
    tensors["bias"] = tensors.pop("decoder.bias")
    write_tensors(folder / "ae.pt", tensors)
    return folder


def openai(root):
    tensors = matrices(linear=True)
    tensors["latent_bias"] = tensors.pop("encoder.bias")
    tensors["pre_bias"] = tensors.pop("decoder.bias")
    others = {"activation": "TopK", "activation_state_dict": {"k": 4, "postact_fn": "ReLU"}}
    return write_tensors(root / "resid_post_mlp_v5_32k/autoencoders/1.pt", tensors | others)


def llama_scope(root):
    settings = {
        "hook_point_in": RESID,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.1,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 3.5, "out": 3.5},
    }
    write_json(root / "hyperparams.json", settings)
    write_tensors(root / "checkpoints/final.safetensors", matrices(linear=True))
    return root


def openmoss(root):
    settings = {"sae_type": "sae", "hook_point_in": RESID, "act_fn": "jumprelu"}
    write_json(root / "config.json", settings)
    tensors = {
        "W_E": numbers(D, N),
        "b_E": numbers(N),
        "W_D": numbers(N, D),
        "b_D": numbers(D),
        "activation_function.log_jumprelu_threshold": numbers(N),
    }
    write_tensors(root / "sae_weights.safetensors", tensors)
    return root


def goodfire(root):
    tensors = {name.replace(".", "_linear."): t for name, t in matrices(linear=True).items()}
    return write_tensors(root / "Llama-3.1-8B-Instruct-SAE-l1.pth", tensors)


def qresearch(root):
    path = root / "DeepSeek-R1-Distill-Llama-8B-SAE-l1.pt"
    return write_tensors(path, matrices(linear=True))


def qwen_scope(root):
    tensors = matrices() | {"W_enc": numbers(N, D), "W_dec": numbers(D, N)}
    return write_tensors(root / "SAE-Res-Qwen3-1.7B-Base-W32K-L0_4/layer1.sae.pt", tensors)


def attention_pickle(root):
    settings = {"act_name": "blocks.1.attn.hook_z", "act_size": D, "dict_size": N}
    write_json(root / "gpt2-small_L1_Hcat_z_cfg.json", settings)
    return write_tensors(root / "gpt2-small_L1_Hcat_z.pt", matrices())


def circuit_tracer(root):
    (root / "config.yaml").write_text(YAML.format("transcoder_set"))
    tensors = matrices() | {"W_enc": numbers(N, D)}
    return write_tensors(root / "layer_1.safetensors", tensors)


def cross_layer(root):
    (root / "config.yaml").write_text(YAML.format("cross_layer_transcoder"))
    for layer in range(2):
        encoder = {"W_enc": numbers(N, D), "b_enc": numbers(N), "b_dec": numbers(D)}
        for file, tensors in (
            ("W_dec", {"W_dec": numbers(N, N_LAYERS - layer, D)}),
            ("W_enc", encoder),
        ):
            named = {f"{name}_{layer}": tensor for name, tensor in tensors.items()}
            path = write_tensors(root / f"{file}_{layer}.safetensors", named)
    return path


@dataclass(frozen=True)
class Layout:
    """One published layout, and where in it the weights and the settings are."""

    write: object
    weights: str
    settings: str | None = None
    encoder: str = "W_enc"

    @property
    def name(self):
        return self.write.__name__


LAYOUTS = (
    Layout(saelens, "sae_weights.safetensors", "cfg.json"),
    Layout(gemma_scope, "params.npz"),
    Layout(gemma_scope_2, "params.safetensors", "config.json", "w_enc"),
    Layout(gemma_scope_2_clt, "params_layer_1.safetensors", None, "w_enc"),
    Layout(sparsify, "sae.safetensors", "cfg.json", "encoder.weight"),
    Layout(dictionary_learning, "ae.pt", "config.json", "encoder.weight"),
    Layout(openai, "1.pt", None, "encoder.weight"),
    Layout(llama_scope, "final.safetensors", "hyperparams.json", "encoder.weight"),
    Layout(openmoss, "sae_weights.safetensors", "config.json", "W_E"),
    Layout(goodfire, "Llama-3.1-8B-Instruct-SAE-l1.pth", None, "encoder_linear.weight"),
    Layout(qresearch, "DeepSeek-R1-Distill-Llama-8B-SAE-l1.pt", None, "encoder.weight"),
    Layout(qwen_scope, "layer1.sae.pt"),
    Layout(attention_pickle, "gpt2-small_L1_Hcat_z.pt", "gpt2-small_L1_Hcat_z_cfg.json"),
    Layout(circuit_tracer, "layer_1.safetensors", "config.yaml"),
    Layout(cross_layer, "W_enc_1.safetensors", "config.yaml", "W_enc_1"),
)


def found_in(root, name):
    """The file of a name below a folder."""
    return next(Path(root).rglob(name))

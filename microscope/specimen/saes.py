"""Trains sparse autoencoders on cached activations and saves them in SAELens' layout.

They are trained as BatchTopK (Bussmann et al. 2024: the k·n largest activations of a batch of
n tokens are kept) and saved as JumpReLU with the threshold that keeps as many on average.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from microscope.specimen.recipe import SaeRecipe

RESAMPLED_AT = (0.2, 0.4, 0.6)
IDLE_STEPS = 30
"""A feature that has not fired for this many batches is taken for dead."""
SEARCHED_TOKENS = 4096
THRESHOLD_MEMORY = 0.98
DECAY_FROM = 1 / 3
"""The share of the steps, at the end, over which the learning rate falls to 0."""


@dataclass(frozen=True)
class Sae:
    """A JumpReLU SAE: f = p · [p > threshold], p = (x - b_dec) W_enc + b_enc.

    Decoder rows have length 1.
    """

    w_enc: torch.Tensor  # (d_model, n_features)
    b_enc: torch.Tensor  # (n_features,)
    w_dec: torch.Tensor  # (n_features, d_model)
    b_dec: torch.Tensor  # (d_model,)
    threshold: torch.Tensor  # (n_features,), at least 0

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Activations (..., n_features) of residuals (..., d_model)."""
        p = (x - self.b_dec) @ self.w_enc + self.b_enc
        return p * (p > self.threshold)

    def decode(self, f: torch.Tensor) -> torch.Tensor:
        """Reconstruction (..., d_model) of activations (..., n_features)."""
        return f @ self.w_dec + self.b_dec


@dataclass(frozen=True)
class SaeQuality:
    """How well an SAE reconstructs.

    Explained variance is 1 - E|x - x^|^2 / (E|x|^2 - |E x|^2); `l0` is how many features are on
    at a token; the dead are on at none.
    """

    explained_variance: float
    l0: float
    dead_share: float


@torch.inference_mode()
def measure(sae: Sae, x: torch.Tensor) -> SaeQuality:
    """Quality on residuals (n_tokens, d_model) without position 0."""
    f = sae.encode(x)
    error = (x - sae.decode(f)).double().square().sum()
    spread = (x - x.mean(0)).double().square().sum()
    is_on = f > 0
    return SaeQuality(
        float(1 - error / spread),
        float(is_on.sum(1).double().mean()),
        float((~is_on.any(0)).double().mean()),
    )


class _Training:
    """The state of one SAE in training, on residuals that are centred and of norm √d."""

    def __init__(self, x: torch.Tensor, recipe: SaeRecipe, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.recipe = recipe
        self.mean = x.mean(0)
        centred = x - self.mean
        self.scale = x.shape[1] ** 0.5 / float(centred.norm(dim=1).mean())
        self.x = centred * self.scale
        # Directions of real tokens as a start: every feature is alive and near its task.
        w_dec = _unit(self.x[self._draw(recipe.n_features)])
        self.w_dec = w_dec.clone().requires_grad_()
        self.w_enc = w_dec.T.contiguous().requires_grad_()
        self.b_enc = torch.zeros(recipe.n_features, requires_grad=True)
        self.threshold = 0.0
        self.n_idle = torch.zeros(recipe.n_features, dtype=torch.long)
        self.optimizer = torch.optim.Adam(
            [self.w_enc, self.b_enc, self.w_dec], lr=recipe.learning_rate, fused=True
        )

    def step(self, rate: float) -> None:
        """One step of gradient descent on a random batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x = self.x[self._draw(self.recipe.tokens_per_batch)]
        p = torch.relu(x @ self.w_enc + self.b_enc)
        least = self._least_kept(p.detach())
        f = p * (p > least)
        loss = (f @ self.w_dec - x).square().sum(1).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.w_dec.copy_(_unit(self.w_dec))
        self._remember(f.detach(), least)

    @torch.no_grad()
    def resample(self) -> None:
        """Give features that no longer fire the directions of badly reconstructed tokens."""
        idle = torch.nonzero(self.n_idle > IDLE_STEPS).flatten()
        if not len(idle):
            return
        x = self.x[self._draw(SEARCHED_TOKENS)]
        p = torch.relu(x @ self.w_enc + self.b_enc)
        error = x - (p * (p > self.threshold)) @ self.w_dec
        weights = error.square().sum(1).square()
        chosen = torch.multinomial(weights, len(idle), True, generator=self.generator)
        directions = _unit(error[chosen])
        self.w_dec[idle] = directions
        self.w_enc[:, idle] = directions.T
        self.b_enc[idle] = 0.0
        self.n_idle[idle] = 0
        for weights, at in ((self.w_enc, (slice(None), idle)), (self.w_dec, idle)):
            for moment in ("exp_avg", "exp_avg_sq"):
                self.optimizer.state[weights][moment][at] = 0.0

    @torch.no_grad()
    def result(self) -> Sae:
        """The SAE in the units of the residuals that it was given."""
        return Sae(
            self.w_enc.clone(),
            self.b_enc / self.scale,
            self.w_dec.clone(),
            self.mean,
            torch.full_like(self.b_enc, self.threshold / self.scale),
        )

    def _draw(self, n: int) -> torch.Tensor:
        return torch.randint(len(self.x), (n,), generator=self.generator)

    def _least_kept(self, p: torch.Tensor) -> float:
        """The largest activation of the batch that is not kept."""
        n_kept = min(self.recipe.k * len(p), p.numel() - 1)
        return float(p.flatten().kthvalue(p.numel() - n_kept).values)

    def _remember(self, f: torch.Tensor, least: float) -> None:
        memory = THRESHOLD_MEMORY if self.threshold else 0.0
        self.threshold = memory * self.threshold + (1 - memory) * least
        self.n_idle += 1
        self.n_idle[(f > 0).any(0)] = 0


def train_sae(
    x: torch.Tensor, recipe: SaeRecipe, seed: int, on_step: Callable[[int, int], None]
) -> Sae:
    """Train an SAE on residuals (n_tokens, d_model)."""
    training = _Training(x, recipe, seed)
    resampled_at = {round(share * recipe.n_steps) for share in RESAMPLED_AT}
    for step in range(recipe.n_steps):
        left = (recipe.n_steps - step) / recipe.n_steps
        training.step(recipe.learning_rate * min(1.0, left / DECAY_FROM))
        if step in resampled_at:
            training.resample()
        on_step(step + 1, recipe.n_steps)
    return training.result()


def save_sae(sae: Sae, folder: Path, site: str, model_name: str, context_length: int) -> None:
    """Write an SAE into `folder/<site>/`."""
    place = folder / site
    place.mkdir(parents=True)
    tensors = {
        "W_enc": sae.w_enc,
        "b_enc": sae.b_enc,
        "W_dec": sae.w_dec,
        "b_dec": sae.b_dec,
        "threshold": sae.threshold,
    }
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    save_file(contiguous, place / "sae_weights.safetensors")
    config = _config(sae, site, model_name, context_length)
    (place / "cfg.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _config(sae: Sae, site: str, model_name: str, context_length: int) -> dict[str, object]:
    return {
        "architecture": "jumprelu",
        "d_in": sae.w_enc.shape[0],
        "d_sae": sae.w_enc.shape[1],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.0.0",
            "model_name": model_name,
            "model_class_name": "HookedTransformer",
            "hook_name": site,
            "hook_head_index": None,
            "prepend_bos": True,
            "context_size": context_length,
        },
    }


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)

"""A session as it is after a run, with small made-up arrays."""

import numpy as np

from microscope.core.cards import ModelCard, SaeCard
from microscope.core.features import Clamp, FeatureId
from microscope.core.pages import FeaturePage
from microscope.core.prompts import Prompt, Token
from microscope.core.readings import FeatureReading, LensReading
from microscope.core.sites import lens_sites, resid_post
from microscope.session.session import Cursor, EngineState, Session, WrittenToken
from microscope.session.setup import Setup

SAE = resid_post(1)
BRIDGES = FeatureId(SAE, 17)
PLAIN = FeatureId(SAE, 4)
MODEL = ModelCard(
    name="tiny",
    source="/models/tiny",
    architecture="llama",
    n_layers=3,
    d_model=32,
    n_vocabulary=100,
    context_length=64,
    n_parameters=7_300_000,
    dtype="float32",
    device="cpu",
)
TOKENS = (
    Token(1, "<s>", is_special=True),
    Token(10, "The"),
    Token(11, " bridge"),
    Token(12, "\n"),
)


def sae_card(layer=1, name=None):
    site = resid_post(layer)
    return SaeCard(name or site, f"/saes/{layer}", site, "relu", 64, 32)


def lens(n_layers=3, tokens=TOKENS, top=10, seed=0):
    rng = np.random.default_rng(seed)
    reading = LensReading.empty(lens_sites(n_layers), tokens, top)
    reading.ids[:] = rng.integers(0, 50, reading.ids.shape)
    p = np.sort(rng.dirichlet(np.ones(top), reading.ids.shape[:2]), axis=2)[:, :, ::-1]
    reading.p[:], reading.entropy[:], reading.logsumexp[:] = p, 1.5, 3.0
    texts = {i: f" word{i}" for i in range(50)}
    return LensReading(
        reading.sites, tokens, reading.ids, reading.p, reading.logsumexp, reading.entropy, texts
    )


def features(name=SAE, n_tokens=4):
    reading = FeatureReading.empty(name, n_tokens, 3)
    reading.indices[:] = [BRIDGES.index, PLAIN.index, -1]
    reading.activations[:, 0] = np.arange(1, n_tokens + 1)
    reading.activations[:, 1] = 0.5
    reading.error_share[:] = 0.12
    return reading


def written(*words, kl=None):
    return tuple(WrittenToken(Token(hash(w) % 1000, w), 0.25, kl) for w in words)


def filled_session():
    return Session(
        setup=Setup(
            prompt=Prompt("The bridge\n"),
            clamps=(Clamp(BRIDGES, 12.0), Clamp(PLAIN, 3.0, "add")),
            seed=7,
        ),
        cursor=Cursor(token=2, site=1, feature=BRIDGES),
        engine=EngineState("ready", "Ready"),
        model=MODEL,
        saes=(sae_card(),),
        pages={BRIDGES: FeaturePage(BRIDGES, "bridges", 0.9, "corpus", 6.0, 0.01)},
        tokens=TOKENS,
        lens=lens(),
        features={SAE: features()},
        baseline=written(" is", " old", "."),
        steered=written(" is", " a", " bridge", kl=0.5),
        tokens_per_second=120.0,
    )

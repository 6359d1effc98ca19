"""A library as it is after a look at a disk, with made-up contents."""

from microscope.core.library import (
    FreeMemory,
    LibraryContents,
    LocalModel,
    ModelShape,
    SaeRelease,
    Starter,
)
from microscope.session.library import Library

RELEASE = SaeRelease(
    name="some-saes",
    repository="some/saes",
    model="some/model",
    format="SAELens",
    site="blocks.{layer}.hook_resid_pre",
    layers=(0, 1, 2, 3),
    d_in=768,
    width=24576,
    path="layer_{layer}",
    l0=(10, 20, 30, None),
    labels="some/{layer}-res",
    is_centred=True,
    licence="MIT",
)
TRANSCODERS = SaeRelease(
    name="other-transcoders",
    repository="other/transcoders",
    model="other/model",
    format="circuit-tracer transcoder",
    site="blocks.{layer}.mlp.hook_in",
    site_out="blocks.{layer}.hook_mlp_out",
    layers=(5,),
    d_in=8,
    path="layer_{layer}.safetensors",
)
STARTER = Starter(
    name="Some",
    about="A starter.",
    model="some/model",
    n_parameters=124_439_808,
    dtype="float32",
    n_layers=12,
    d_model=768,
    n_heads=12,
    n_kv_heads=12,
    head_dim=64,
    n_vocabulary=50257,
    licence="MIT",
    needs_login=True,
    release="some-saes",
    layers=(1, 3),
)
MODEL = LocalModel(
    source="some/model",
    name="some/model",
    folder="/cache/model",
    architecture="gpt2",
    n_parameters=124_439_808,
    dtype="float32",
    size_bytes=500_000_000,
    shape=ModelShape(12, 768, 12, 12, 64, 50257),
)
LARGE = LocalModel(
    source="/models/large",
    name="large",
    folder="/models/large",
    architecture="llama",
    n_parameters=8_000_000_000,
    dtype="bfloat16",
    size_bytes=16_000_000_000,
    shape=ModelShape(32, 4096, 32, 8, 128, 128_256),
    is_recent=True,
)
BROKEN = LocalModel(
    source="broken/model",
    name="broken/model",
    folder="/cache/broken",
    problem="/cache/broken has no weights.",
)
FREE = FreeMemory(24_000_000_000)


def full_library(**fields):
    contents = LibraryContents(
        models=(LARGE, MODEL, BROKEN),
        folders={"some/model": "/c/m", "some/saes": "/cache/saes", "broken/model": "/c/b"},
        saes={"some-saes": (1, 3)},
    )
    library = Library(starters=(STARTER,), releases=(TRANSCODERS, RELEASE))
    settings = {"contents": contents, "free": FREE, "is_offline": False, **fields}
    for name, value in settings.items():
        setattr(library, name, value)
    return library

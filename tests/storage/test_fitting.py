"""Whether a model fits is computed from its shape, and said in a sentence."""

import pytest

from microscope.core.library import FreeMemory, LocalModel, ModelShape
from microscope.storage import fitting
from microscope.storage.fitting import (
    ENGINE_BYTES,
    available_choices,
    in_words,
    judge,
    memory_need,
    settle,
)
from microscope.storage.free_memory import (
    free_cpu_bytes,
    free_memory,
    nvidia_gpu,
    parse_meminfo,
    parse_nvidia_smi,
    parse_vm_stat,
)

GB = 10**9
LLAMA_8B = ModelShape(32, 4096, 32, 8, 128, 128_256)
MODEL = LocalModel(
    source="m",
    name="m",
    folder="m",
    n_parameters=8_030_261_248,
    dtype="bfloat16",
    shape=LLAMA_8B,
)


@pytest.fixture
def with_quantisation(monkeypatch):
    monkeypatch.setattr(fitting, "can_quantise", lambda: True)
    monkeypatch.setattr(fitting, "can_spread", lambda: False)


def test_weights_are_numbers_times_bytes():
    n, outside = MODEL.n_parameters, 128_256 * 4096
    sizes = {c: memory_need(n, LLAMA_8B, c).weights for c in ("float32", "bfloat16")}
    assert sizes == {"float32": 4 * n, "bfloat16": 2 * n}
    inside = n - outside
    assert memory_need(n, LLAMA_8B, "8bit").weights == inside + 2 * outside
    assert memory_need(n, LLAMA_8B, "4bit").weights == inside * 9 / 16 + 2 * outside


def test_the_cache_is_that_of_two_texts():
    need = memory_need(MODEL.n_parameters, LLAMA_8B, "bfloat16", sae_bytes=5)
    assert need.cache == 2 * 32 * 8 * 128 * 1024 * 2 * 2
    assert need.saes == 5
    assert need.total == need.weights + need.cache + need.working + 5


def test_a_shape_that_is_not_known_still_gives_the_weights():
    need = memory_need(100, ModelShape(), "float32")
    assert (need.weights, need.cache, need.working) == (400, 0, ENGINE_BYTES)


@pytest.mark.parametrize(
    ("choice", "dtype", "device", "comes_to"),
    [
        ("auto", "bfloat16", "cpu", "float32"),
        ("auto", "bfloat16", "cuda", "bfloat16"),
        ("auto", "float32", "cuda", "float32"),
        ("bfloat16", "float32", "cpu", "bfloat16"),
    ],
)
def test_auto_is_what_the_engine_would_choose(choice, dtype, device, comes_to):
    assert settle(choice, dtype, device) == comes_to


def test_a_model_that_fits_says_how_much_is_free():
    verdict = judge(MODEL, "auto", FreeMemory(64 * GB))
    assert verdict.fits
    assert verdict.choice == "float32"
    assert verdict.sentence == "About 34.6 GB as float32; 64.0 GB are free in main memory."


def test_a_model_that_does_not_fit_names_what_would():
    verdict = judge(MODEL, "auto", FreeMemory(24 * GB))
    assert not verdict.fits
    assert verdict.smaller == ("bfloat16",)
    assert verdict.sentence.endswith("it will not fit. Open it as bfloat16.")


def test_8_and_4_bits_are_offered_where_the_libraries_are(with_quantisation):
    assert available_choices() == ("float32", "bfloat16", "8bit", "4bit")
    gpu = FreeMemory(64 * GB, 12 * GB, "Some GPU")
    verdict = judge(MODEL, "auto", gpu)
    assert verdict.choice == "bfloat16"
    assert verdict.smaller == ("8bit", "4bit")
    assert "free on the Some GPU" in verdict.sentence
    assert verdict.sentence.endswith("Open it as 8 bits or 4 bits.")


def test_without_the_libraries_8_and_4_bits_are_not_offered(monkeypatch):
    monkeypatch.setattr(fitting, "can_quantise", lambda: False)
    monkeypatch.setattr(fitting, "can_spread", lambda: False)
    assert available_choices() == ("float32", "bfloat16")
    gpu = FreeMemory(64 * GB, 12 * GB, "Some GPU")
    assert "open it on the CPU" in judge(MODEL, "auto", gpu).sentence
    assert "smaller model" in judge(MODEL, "bfloat16", FreeMemory(8 * GB)).sentence


def test_what_is_too_large_for_the_gpu_is_shared_with_main_memory(monkeypatch):
    monkeypatch.setattr(fitting, "can_spread", lambda: True)
    gpu = FreeMemory(64 * GB, 12 * GB, "Some GPU")
    verdict = judge(MODEL, "auto", gpu)
    assert verdict.fits
    assert "goes to main memory" in verdict.sentence
    assert not judge(MODEL, "auto", FreeMemory(2 * GB, 12 * GB, "Some GPU")).fits
    assert not judge(MODEL, "auto", FreeMemory(24 * GB)).fits


def test_memory_that_nobody_knows_is_not_held_against_a_model():
    verdict = judge(MODEL, "auto", FreeMemory())
    assert verdict.fits
    assert "not known" in verdict.sentence


def test_saes_count_too():
    free = FreeMemory(36 * GB)
    assert not judge(MODEL, "auto", free).fits
    free = FreeMemory(40 * GB)
    assert judge(MODEL, "auto", free).fits
    assert not judge(MODEL, "auto", free, sae_bytes=8 * GB).fits


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (151_000_000, "151 MB"),
        (3.4e12, "3.4 TB"),
    ],
)
def test_sizes_are_said_in_words(n_bytes, words):
    assert in_words(n_bytes) == words


def test_linux_s_report_is_read():
    text = "MemTotal:  100 kB\nMemFree: 5 kB\nMemAvailable:     42 kB\n"
    assert parse_meminfo(text) == 42 * 1024
    assert parse_meminfo("MemTotal: 1 kB") is None


def test_the_report_of_macos_is_read():
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:               10.\nPages active:  99.\nPages inactive:   5.\n"
        "Pages speculative:  1.\nPages purgeable:   2.\n"
    )
    assert parse_vm_stat(text) == 18 * 16384
    assert parse_vm_stat("") is None


def test_the_report_of_a_gpu_is_read():
    assert parse_nvidia_smi("NVIDIA GeForce RTX 4090, 2048\nother, 1\n") == (
        "NVIDIA GeForce RTX 4090",
        2 << 30,
    )
    for nothing in ("", "NVIDIA-SMI has failed", "A, [N/A]"):
        assert parse_nvidia_smi(nothing) == ("", 0)


def test_this_computer_knows_its_free_memory(monkeypatch, tmp_path):
    assert free_cpu_bytes() > 1 << 20
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_gpu() == ("", 0)
    assert free_memory().device == "cpu"


def test_a_gpu_that_is_reported_is_where_the_model_goes(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Some GPU, 1000'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    free = free_memory()
    assert (free.device, free.gpu_name, free.usable_bytes) == ("cuda", "Some GPU", 1000 << 20)
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert free_memory().gpu_bytes == 0

"""What the library's dialog shows follows from what is here, what is free and what is known."""

import pytest
from library_cases import BROKEN, FREE, LARGE, full_library

from microscope.core.library import FreeMemory, LibraryContents
from microscope.session.library import DownloadState
from microscope.session.library_view import (
    CENTRED_NOTE,
    LOGIN_NOTE,
    MODEL_COLUMNS,
    RELEASE_COLUMNS,
    bar_parts,
    default_layers,
    download_line,
    download_share,
    folder_line,
    model_entries,
    parameters_in_words,
    release_entries,
    starter_entries,
)


def test_a_starter_tells_its_size_licence_and_login():
    (entry,) = starter_entries(full_library())
    facts = dict(entry.facts)
    assert facts["Parameters"] == "124 million"
    assert facts["SAEs"] == "some-saes, layers 1 and 3"
    assert facts["Download"] == "about 498 MB and 302 MB of SAEs"
    assert facts["Licence"] == "MIT"
    assert facts["Labels"] == "Neuronpedia, some/LAYER-res"
    assert entry.notes == (LOGIN_NOTE,)
    assert entry.size_bytes == 124_439_808 * 4 + 2 * 2 * 768 * 24576 * 4
    assert entry.is_here
    assert entry.verdicts[0].need.saes == 2 * 2 * 768 * 24576 * 4


def test_a_starter_is_here_with_its_model_and_all_its_saes_only():
    assert not starter_entries(full_library(contents=LibraryContents()))[0].is_here
    library = full_library()
    without_saes = LibraryContents(library.contents.models, library.contents.folders)
    assert not starter_entries(full_library(contents=without_saes))[0].is_here


def test_models_are_rows_with_what_they_take():
    large, small, broken = model_entries(full_library())
    assert len(large.columns) == len(MODEL_COLUMNS)
    assert large.columns == ("large", "8.0 billion", "bfloat16", "16.0 GB", "too large")
    assert small.columns[-1] == "fits"
    assert broken.columns == ("broken/model", "", "", "", "damaged")
    assert large.about == "Opened lately."
    assert not broken.is_here
    assert broken.problem == BROKEN.problem
    assert [v.choice for v in large.verdicts] == ["float32", "bfloat16"]
    assert large.verdicts[0].smaller == ("bfloat16",)


def test_what_came_from_the_hub_can_be_fetched_again():
    assert [entry.can_fetch for entry in model_entries(full_library())] == [False, True, True]


def test_every_word_has_to_be_in_a_model_s_name_or_architecture():
    def names(words):
        return [entry.title for entry in model_entries(full_library(), words)]

    assert names("MODEL") == ["some/model", "broken/model"]
    assert names("large llama") == ["large"]
    assert names("large gpt2") == []


def test_releases_that_are_here_stand_first():
    here, other = release_entries(full_library())
    assert len(here.columns) == len(RELEASE_COLUMNS)
    assert here.columns == (
        "some-saes", "some/model", "hook_resid_pre", "24,576", "4", "2",
    )  # fmt: skip
    facts = dict(here.facts)
    assert facts["Layers"] == "layers 0 to 3"
    assert facts["Active at once"] == "10 to 30, by layer"
    assert facts["Size of one"] == "151 MB"
    assert here.notes == (CENTRED_NOTE,)
    assert default_layers(here) == (1,)
    assert other.columns[3:] == ("not known", "1", "")
    facts = dict(other.facts)
    assert facts["Writes at"] == "hook_mlp_out"
    assert facts["Layers"] == "layer 5"
    assert facts["Active at once"] == facts["Size of one"] == "not known"
    assert facts["Labels"] == "none known"
    assert default_layers(other) == (5,)


def test_releases_are_searched_by_words():
    (found,) = release_entries(full_library(), "circuit-tracer MLP")
    assert found.title == "other-transcoders"


def test_the_bar_is_made_of_what_is_needed():
    verdict = starter_entries(full_library())[0].verdicts[0]
    parts = dict(bar_parts(verdict))
    assert list(parts) == ["weights", "SAEs", "cache", "work"]
    assert sum(parts.values()) == verdict.need.total
    plain = model_entries(full_library())[0].verdicts[0]
    assert "SAEs" not in dict(bar_parts(plain))


def test_the_line_above_tells_what_was_found_and_whether_the_network_is_used():
    assert folder_line(full_library()) == "3 models in the Hugging Face cache"
    assert folder_line(full_library(is_looking=True)) == "Looking at the disk…"
    library = full_library(contents=LibraryContents(remarks=("a is damaged",)))
    assert folder_line(library).endswith("; not all could be read: a is damaged")
    library = full_library(
        is_offline=True, folders=("/a",), contents=LibraryContents(models=(LARGE,))
    )
    assert folder_line(library) == (
        "Working offline: 1 model in the Hugging Face cache and 1 folder of yours"
    )


@pytest.mark.parametrize(
    ("download", "line", "share"),
    [
        (DownloadState("k", "GPT-2"), "GPT-2: asking the hub", None),
        (DownloadState("k", "GPT-2", 0, 4000), "GPT-2: 0 bytes of 4.0 kB", 0.0),
        (DownloadState("k", "G", 1000, 4000, "w"), "G: 1.0 kB of 4.0 kB, w", 0.25),
        (DownloadState("k", "G", 5000, 4000), "G: 5.0 kB of 4.0 kB", 1.0),
    ],
)
def test_a_download_is_told_in_words(download, line, share):
    assert download_line(download) == line
    assert download_share(download) == share


@pytest.mark.parametrize(
    ("n", "words"),
    [(12, "12"), (12_345, "12,345"), (7.3e6, "7 million"), (999_885_952, "1.0 billion")],
)
def test_parameters_are_told_in_words(n, words):
    assert parameters_in_words(n) == words


def test_without_knowing_the_free_memory_everything_may_be_opened():
    entries = model_entries(full_library(free=FreeMemory()))
    assert entries[0].columns[-1] == "fits"
    assert FREE.cpu_bytes

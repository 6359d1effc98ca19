"""Every layout of label files, written as other programs write them, into a store and out."""

import gzip
import json

import pytest

from microscope.core.errors import LabelsUnreadable
from microscope.core.features import FeatureId
from microscope.core.pages import Example, Histogram, TokenWeight
from microscope.storage.feature_details import MAX_EXAMPLES
from microscope.storage.feature_pages import FeaturePages
from microscope.storage.label_import import import_labels, layer_named_in

SAE = "blocks.7.hook_resid_pre"


@pytest.fixture
def store(tmp_path):
    with FeaturePages(tmp_path / "pages.sqlite", is_writable=True) as pages:
        yield pages


def feature(index):
    return FeatureId(SAE, index)


def lines(path, *records):
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def explanation(index, description, kind="np_max-act", **more):
    return {
        "id": f"x{index}",
        "modelId": "gpt2-small",
        "layer": "7-res-jb",
        "index": index,
        "description": description,
        "typeName": kind,
        "explanationModelName": "some-model",
        "embedding": [0.5] * 4,
        **more,
    }


def statistics(index, key="index"):
    return {
        key: index,
        "maxActApprox": 12.5,
        "frac_nonzero": 0.01,
        "pos_str": ["Ġbridge", "▁ferry"],
        "pos_values": [2.0, 1.5],
        "neg_str": ["Ċ"],
        "neg_values": [-1.0],
        "freq_hist_data_bar_heights": [30, 3],
        "freq_hist_data_bar_values": [1.0, 9.0],
    }


def shown(index, peak):
    return {
        "modelId": "gpt2-small",
        "layer": "7-res-jb",
        "index": index,
        "tokens": ["The", "Ġbridge", "Ċ"],
        "values": [0.0, peak, 0],
        "maxValue": peak,
    }


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_explanations_by_the_line(store, tmp_path, suffix):
    path = lines(
        tmp_path / f"batch-0.{suffix}",
        explanation("10", "bridges"),
        explanation(2, "boats"),
        explanation("10", "crossings", "np_max-act-logits"),
        explanation("10", "rivers"),
    )
    report = import_labels(path, SAE, store)
    assert (report.files, report.features, report.labels) == (1, 2, 4)
    assert store.page(feature(2)).label == "boats"
    assert store.page(feature(10)).label == "crossings"
    labels = store.details(feature(10)).labels
    assert [label.text for label in labels] == ["crossings", "rivers", "bridges"]
    assert labels[0].source == "np_max-act-logits · some-model"
    assert [page.label for page in store.search("cross")] == ["crossings"]
    assert layer_named_in(path) == 7


def test_features_and_activations_in_a_folder_with_other_files(store, tmp_path):
    root = tmp_path / "7-res-jb"
    lines(root / "release.jsonl", {"name": "res-jb", "description": "by somebody"})
    lines(root / "source.jsonl", {"id": "7-res-jb", "num_prompts": 24576})
    lines(root / "features" / "batch-0.jsonl.gz", {"layer": "7-res-jb", **statistics("3")})
    lines(root / "activations" / "batch-0.jsonl.gz", *(shown("3", n + 0.5) for n in range(20)))
    lines(root / "explanations" / "batch-0.jsonl.gz", explanation("3", "bridges"))
    report = import_labels(root, SAE, store)
    assert (report.files, report.features) == (3, 1)
    page, details = store.page(feature(3)), store.details(feature(3))
    assert (page.label, page.max_activation, page.density) == ("bridges", 12.5, 0.01)
    assert details.histogram == Histogram((1.0, 9.0), (30.0, 3.0))
    assert details.top_tokens == (TokenWeight(" bridge", 2.0), TokenWeight(" ferry", 1.5))
    assert details.bottom_tokens == (TokenWeight("\n", -1.0),)
    assert [example.peak for example in details.examples] == [
        19.5 - n for n in range(MAX_EXAMPLES)
    ]
    assert details.examples[0].tokens == ("The", " bridge", "\n")
    assert not details.is_raw


@pytest.mark.parametrize("as_list", [True, False], ids=["list", "single"])
@pytest.mark.parametrize("indent", [None, 2])
def test_the_api_s_answer_for_one_feature_or_several(store, tmp_path, as_list, indent):
    answer = {
        "modelId": "gpt2-small",
        "layer": "7-res-jb",
        **statistics("3"),
        "model": {"id": "gpt2-small"},
        "explanations": [{"description": "bridges", "typeName": "np_max-act", "scores": []}],
        "activations": [{"tokens": ["a", "b"], "values": [0, 4.0]}],
        "neuron_alignment_values": [float("nan"), float("inf")],
    }
    path = tmp_path / "answer.json"
    path.write_text(json.dumps([answer, {**answer, "index": "4"}] if as_list else answer,
                               indent=indent))  # fmt: skip
    report = import_labels(path, SAE, store)
    assert report.features == 1 + as_list
    assert store.page(feature(3)).label == "bridges"
    assert store.details(feature(3)).examples == (Example(("a", "b"), (0.0, 4.0)),)


def test_the_older_export_is_an_array_of_explanations(store, tmp_path):
    path = tmp_path / "export.json"
    path.write_text(json.dumps([explanation(n, f"label {n}") for n in range(3000)]))
    assert import_labels(path, SAE, store).features == 3000
    assert store.page(feature(2999)).label == "label 2999"


def test_the_export_that_wraps_its_explanations(store, tmp_path):
    path = tmp_path / "export.json"
    items = [{"modelId": "m", "layer": "7-res-jb", "feature": "5", "description": "five"}]
    path.write_text(json.dumps({"explanationsCount": 1, "explanations": items}))
    import_labels(path, SAE, store)
    assert store.page(feature(5)).label == "five"


def test_batches_of_sae_dashboard(store, tmp_path):
    for n in range(2):
        entry = {
            **statistics(n, "feature_index"),
            "activations": [
                {"bin_min": 0, "bin_max": 9, "tokens": ["a", "b"], "values": [1.0, 8.0 + n]}
            ],
        }
        del entry["maxActApprox"]
        batch = {"model_id": "gpt2", "layer": 7, "sae_set": "res-jb", "features": [entry]}
        (tmp_path / f"batch-{n}.json").write_text(json.dumps(batch))
    report = import_labels(tmp_path, SAE, store)
    assert (report.files, report.features, report.examples) == (2, 2, 2)
    assert store.page(feature(1)).max_activation == 9.0
    assert store.details(feature(1)).histogram == Histogram((1.0, 9.0), (30.0, 3.0))
    assert layer_named_in(tmp_path) == 7


def test_the_json_of_circuit_tracer_keeps_its_own_units(store, tmp_path):
    record = {
        "transcoder_id": "layer_7",
        "index": 12,
        "examples_quantiles": [
            {"quantile_name": "Top", "examples": [
                {"tokens": ["x", "y"], "tokens_acts_list": [0.0, 3.0], "train_token_ind": 1}]},
            {"quantile_name": "Low", "examples": [
                {"tokens": ["u", "v"], "tokens_acts_list": [0.5, 0.0], "train_token_ind": 0}]},
        ],
        "top_logits": ["▁one"],
        "bottom_logits": ["two"],
        "act_min": 0.0,
        "act_max": 4.0,
        "quantile_values": [0.1],
        "histogram": [5, 3],
        "activation_frequency": 0.002,
    }  # fmt: skip
    path = tmp_path / "12.json"
    path.write_text(json.dumps(record))
    import_labels(path, SAE, store)
    page, details = store.page(feature(12)), store.details(feature(12))
    assert (page.max_activation, page.density) == (0.0, 0.002)
    assert details.is_raw
    assert details.histogram == Histogram((1.0, 3.0), (5.0, 3.0))
    assert details.top_tokens == (TokenWeight(" one", 0.0),)
    assert [example.peak for example in details.examples] == [3.0, 0.5]
    assert layer_named_in(path) == 7


@pytest.mark.parametrize(
    "text",
    [
        "index,label\n3,bridges\n4,\"boats, and\nferries\"\n",
        "note;x\tfeature\tdescription\nz\t3\tbridges\nz\t4\tboats, and\n",
        "3,bridges\r\n\r\n4,\"boats, and\"\r\n",
        "\ufefffeature_index,explanation\n3,bridges\n4,\"boats, and\"\n",
        '{"3": "bridges", "4": "boats, and"}',
        '{\n  "3": "bridges",\n  "4": "boats, and"\n}\n',
        '["zero", "one", "", "bridges", "boats, and"]',
    ],
    ids=["csv", "tsv", "no heading", "mark", "map", "long map", "array"],
)  # fmt: skip
def test_plain_tables_and_maps(store, tmp_path, text):
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode())
    import_labels(path, SAE, store)
    assert store.page(feature(3)).label == "bridges"
    assert store.page(feature(4)).label.startswith("boats, and")
    assert store.page(feature(2)) is None


def test_importing_again_adds_nothing_twice_and_keeps_what_the_new_file_leaves_out(
    store, tmp_path
):
    everything = lines(tmp_path / "a.jsonl", statistics(3), shown("3", 5.0), shown("3", 4.0))
    import_labels(everything, SAE, store)
    import_labels(everything, SAE, store)
    path = tmp_path / "labels.csv"
    path.write_text("3,mine")
    import_labels(path, SAE, store)
    page, details = store.page(feature(3)), store.details(feature(3))
    assert (page.label, page.label_source, page.max_activation) == ("mine", "import", 12.5)
    assert len(details.examples) == 2
    assert len(details.top_tokens) == 2


def test_an_export_of_a_larger_sae_or_of_two_is_refused_and_nothing_is_kept(store, tmp_path):
    path = lines(tmp_path / "a.jsonl", explanation(1, "one"), explanation(64, "far"))
    with pytest.raises(LabelsUnreadable, match="has 64 features: the file is about another"):
        import_labels(path, SAE, store, n_features=64)
    path = lines(tmp_path / "a.jsonl", explanation(1, "one"), explanation(2, "x", layer="8-x"))
    with pytest.raises(LabelsUnreadable, match="tells of 8-x, and what was read before of 7-"):
        import_labels(path, SAE, store)
    assert store.pages_of(SAE) == {}


def test_long_texts_are_cut_around_their_peak(store, tmp_path):
    record = {**shown("3", 0), "tokens": ["t"] * 500, "values": [0.0] * 300 + [7.0] + [0] * 199}
    import_labels(lines(tmp_path / "a.jsonl", record), SAE, store)
    (example,) = store.details(feature(3)).examples
    assert len(example.tokens) == 49
    assert example.activations[24] == 7.0

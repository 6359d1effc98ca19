"""Damaged and harmful label files: one sentence each, nothing kept, memory bounded."""

import gzip
import json
import tracemalloc
import zlib

import pytest

from microscope.core.errors import LabelsUnreadable
from microscope.storage.feature_pages import FeaturePages
from microscope.storage.label_import import import_labels, layer_named_in
from microscope.storage.label_import.json_items import items_of_array, parsed
from microscope.storage.label_import.values import MalformedError

GOOD = b'{"index": 1, "layer": "7-x", "description": "one"}\n'
ZEROS = zlib.compressobj(9, wbits=31)
BOMB = ZEROS.compress(bytes(1 << 27)) + ZEROS.flush()


def with_field(**fields):
    record = {"index": 1, "layer": "7-x", "description": "one"}
    return json.dumps(record | fields).encode()


def feature_with(**fields):
    return json.dumps({"index": 1, "maxActApprox": 1.0} | fields).encode()


HOSTILE = {
    "empty": (b"", "no labels"),
    "space": (b" \n\t\n", "no labels"),
    "other json": (b'{"name": "x"}', "no labels"),
    "empty array": (b"[]", "no labels"),
    "binary": (bytes(range(128, 256)), "not text in UTF-8"),
    "cut utf-8": (GOOD + b'{"index": 2, "description": "\xc3', "not text in UTF-8"),
    "prose": (b"Dear reader,\nthis is a letter.\n", "neither a known layout"),
    "cut line": (GOOD + b'{"index": 2, "descr', "in line 2, it is not JSON"),
    "cut object": (b'{\n"index": 2,\n', "not JSON"),
    "cut array": (b"[" + GOOD + b",", "not JSON"),
    "array without commas": (b"[" + GOOD + GOOD + b"]", "not JSON"),
    "array of numbers": (b"[1, 2]", "in item 1, it has entries that are not objects"),
    "deep array": (b"[" * 200_000, "nested too deeply"),
    "deep object": (b'{"a":' * 200_000 + b"1", "not JSON"),
    "deep line": (GOOD + b"[" * 200_000 + b"\n", "not JSON"),
    "line that is a list": (GOOD + b"[1]\n", "entries that are not objects"),
    "endless number": (GOOD + b'{"index": ' + b"9" * 9_999 + b', "description": "x"}', "JSON"),
    "index of text": (with_field(index="one"), "index is 'one' and not the number"),
    "negative index": (with_field(index=-1), "index is -1"),
    "huge index": (with_field(index=1 << 60), "and not the number of a feature"),
    "fraction as index": (with_field(index=1.5), "index is 1.5"),
    "truth as index": (with_field(index=True), "index is True"),
    "no index": (with_field(index=None), "index is None"),
    "list as index": (with_field(index=[1]), "index is a list"),
    "number as label": (with_field(description=7), "description is 7 and not a text"),
    "object as layer": (with_field(layer={}), "layer is an object and not a name"),
    "text as maximum": (feature_with(maxActApprox="9"), "maxActApprox has '9' where a number"),
    "tokens as text": (feature_with(pos_str="abc"), "pos_str is 'abc' and not a list"),
    "tokens of numbers": (feature_with(pos_str=[1]), "entries that are not texts"),
    "unequal tokens": (feature_with(pos_str=["a"], pos_values=[1, 2]), "different lengths"),
    "unequal bars": (
        feature_with(freq_hist_data_bar_heights=[1], freq_hist_data_bar_values=[1, 2]),
        "different lengths",
    ),
    "bars of text": (
        feature_with(freq_hist_data_bar_heights=["1"], freq_hist_data_bar_values=[1]),
        "where a number belongs",
    ),
    "explanations of text": (feature_with(explanations=["x"]), "entries that are not objects"),
    "unequal example": (
        b'{"index": 1, "tokens": ["a"], "values": [1, 2]}',
        "tokens and values have different lengths",
    ),
    "example of texts": (b'{"index": 1, "tokens": ["a"], "values": ["b"]}', "a number belongs"),
    "dashboard of texts": (b'{"features": ["x"]}', "entries that are not objects"),
    "map to numbers": (b'{"1": 2}', "the label of feature '1' is not a text"),
    "table with one column": (b"1\n2\n", "neither a known layout"),
    "table with a short row": (b"1,one\n2\n", "too few columns"),
    "table with a word": (b"1,one\ntwo,two\n", "the index is 'two'"),
    "open quote": (b'1,"one' + b"x" * 200_000, "no row of a table"),
    "bomb": (BOMB, "a line is longer"),
    "cut gzip": (gzip.compress(GOOD * 9)[:-9], "damaged"),
    "broken gzip": (gzip.compress(GOOD * 9)[:20] + b"xxxx", "damaged"),
    "gzip header only": (b"\x1f\x8b", "damaged"),
    "long line": (b'{"index": 1, "description": "' + b"x" * (17 << 20), "longer than"),
    "large item": (b'["' + b"x" * (17 << 20), "larger than any label"),
    "many brackets": (GOOD + b"[" + b"{}," * 2_100_000 + b"{}]\n", "more objects than any"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_sentence_says_what_is_wrong_and_the_store_is_as_before(tmp_path, name):
    data, words = HOSTILE[name]
    path = tmp_path / "labels"
    path.write_bytes(data)
    with FeaturePages(tmp_path / "pages.sqlite", is_writable=True) as store:
        with pytest.raises(LabelsUnreadable) as caught:
            import_labels(path, "s", store)
        assert store.pages_of("s") == {}
    said = str(caught.value)
    assert words in said
    assert said.startswith(f"The labels in {path} cannot be read: ")
    assert said.endswith("a table of numbers and labels.")
    assert len(said) < 700


def test_a_bomb_is_given_up_long_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    compressor = zlib.compressobj(9, wbits=31)
    line = b" " * (1 << 20) + b"\n"
    path.write_bytes(
        b"".join(compressor.compress(line) for _ in range(256)) + compressor.flush()
    )
    tracemalloc.start()
    with pytest.raises(LabelsUnreadable, match="unpacks to far more"):
        layer_named_in(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 26


def test_nothing_there_and_a_folder_without_labels_are_said(tmp_path):
    with FeaturePages(tmp_path / "pages.sqlite", is_writable=True) as store:
        with pytest.raises(LabelsUnreadable, match="No such file"):
            import_labels(tmp_path / "nowhere.json", "s", store)
        (tmp_path / "empty").mkdir()
        with pytest.raises(LabelsUnreadable, match="no labels in it"):
            import_labels(tmp_path / "empty", "s", store)


def test_numbers_that_are_not_finite_are_not_known_and_broken_characters_are_replaced(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"index": 1, "maxActApprox": Infinity, "frac_nonzero": NaN, "pos_str": ["\\ud800a"], '
        '"pos_values": [-Infinity], "neg_values": null, "explanations": '
        '[{"description": "half \\udc00 a\\u0000character"}]}\n'
    )
    with FeaturePages(tmp_path / "pages.sqlite", is_writable=True) as store:
        import_labels(path, "s", store)
        page = store.pages_of("s")[1]
        assert (page.max_activation, page.density) == (0.0, None)
        assert page.label == "half ? a\0character"
        assert store.details(page.feature).top_tokens[0].text == "?a"


def test_items_of_an_array_come_whole_however_it_is_cut():
    values = [{"a": [1, "]"]}, 12, "x,y", None, -3.5e2]
    text = json.dumps(values)
    for size in (1, 2, 3, 7, 100):
        pieces = [text[n : n + size] for n in range(0, len(text), size)]
        assert list(items_of_array(pieces)) == values
    with pytest.raises(MalformedError, match="not JSON"):
        list(items_of_array(["[1, ", "2"]))
    assert parsed("[NaN]")[0] != parsed("[NaN]")[0]

"""`microscope labels import`, in this process."""

import json

import pytest

from microscope.cli.main import run
from microscope.storage.feature_pages import FeaturePages


def test_labels_are_imported_and_reported_as_json(tmp_path, capsys):
    path, store = tmp_path / "labels.csv", tmp_path / "new" / "pages.sqlite"
    path.write_text("index,label\n3,bridges\n")
    arguments = ["labels", "import", str(path), "--sae", "s", "--store", str(store)]
    assert run([*arguments, "--json", "-"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "sae": "s",
        "files": 1,
        "features": 1,
        "labels": 1,
        "examples": 0,
        "store": str(store),
        "summary": "1 label for 1 feature of s imported.",
    }
    assert said.err == "1 label for 1 feature of s imported.\n"
    with FeaturePages(store) as pages:
        assert pages.pages_of("s")[3].label == "bridges"


def test_what_cannot_be_imported_is_one_sentence_and_code_2(tmp_path, capsys):
    path = tmp_path / "labels.csv"
    path.write_text("7,far\n")
    arguments = ["labels", "import", str(path), "--sae", "s", "--store"]
    assert run([*arguments, str(tmp_path / "p.sqlite"), "--features", "7"]) == 2
    assert "has 7 features" in capsys.readouterr().err
    assert run([*arguments, str(path / "below" / "p.sqlite")]) == 2
    assert "could not be made" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["--sae", "--store"])
def test_an_import_names_its_sae_and_its_store(tmp_path, capsys, missing):
    options = {"--sae": "s", "--store": str(tmp_path / "p.sqlite")}
    del options[missing]
    words = [word for option in options.items() for word in option]
    with pytest.raises(SystemExit) as ended:
        run(["labels", "import", "x.csv", *words])
    assert ended.value.code == 2
    assert missing in capsys.readouterr().err

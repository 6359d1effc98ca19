import pytest

from microscope.core.errors import ClampRejected
from microscope.core.features import Clamp, FeatureId, parse_clamp

SAE = "blocks.3.hook_resid_post"


@pytest.mark.parametrize(
    ("text", "clamp"),
    [
        (f"{SAE}:17=6.5", Clamp(FeatureId(SAE, 17), 6.5, "clamp")),
        (f"{SAE}:17=-1e2@add", Clamp(FeatureId(SAE, 17), -100.0, "add")),
        ("a:b=c:0=0@ablate", Clamp(FeatureId("a:b=c", 0), 0.0, "ablate")),
        (f"{SAE}#2:5=2@scale", Clamp(FeatureId(f"{SAE}#2", 5), 2.0, "scale")),
    ],
)
def test_a_clamp_is_read_from_text(text, clamp):
    assert parse_clamp(text) == clamp


@pytest.mark.parametrize(
    "text", ["", "x", "x=1", ":3=1", "s:=1", "s:1", "s:-1=1", "s:1=1@hold", "s:1=1@", "s:1.5=1"]
)
def test_what_is_no_clamp_is_refused_with_an_example(text):
    with pytest.raises(ClampRejected, match="SAE:INDEX=VALUE"):
        parse_clamp(text)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "ten", ""])
def test_a_value_must_be_a_finite_number(value):
    with pytest.raises(ClampRejected, match="finite number"):
        parse_clamp(f"s:1={value}")

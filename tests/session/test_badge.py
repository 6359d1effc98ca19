import msgspec
import pytest

from microscope.core.cards import ModelCard
from microscope.core.checkup import Finding
from microscope.session.badge import badge, checkup_heading

MODEL = ModelCard("m", "/m", "llama", 1, 8, 9, 64, 1, "float32", "cpu")
INEXACT = msgspec.structs.replace(MODEL, is_exact=False, remark="8 bits")
GOOD = Finding("Logits", True, 0.0, 1e-3, "The same.")
BAD = Finding("blocks.1.hook_resid_post", False, 0.21, 0.7, "Explained variance 0.21 here.")


@pytest.mark.parametrize(
    ("model", "findings", "more", "colour", "line", "tip"),
    [
        (None, (), {}, "good", "", ""),
        (MODEL, (), {}, "good", "exact", "when the model was opened"),
        (MODEL, (), {"is_checking": True}, "good", "exact, checking", "Click"),
        (MODEL, (GOOD, GOOD), {}, "good", "exact", "All 2 checks"),
        (MODEL, (GOOD, BAD), {}, "caution", f"{BAD.name}: {BAD.sentence}", BAD.sentence),
        (MODEL, (BAD, BAD), {}, "caution", "(and 1 more): Explained", BAD.sentence),
        (MODEL, (BAD,), {"is_checking": True}, "caution", BAD.name, BAD.sentence),
        (MODEL, (), {"failure": "It stopped."}, "caution", "not checked", "It stopped."),
        (INEXACT, (GOOD,), {}, "caution", "not exact: 8 bits", "8 bits"),
    ],
)
def test_the_badge_is_green_or_amber_with_the_reason(model, findings, more, colour, line, tip):
    shown = badge(model, findings, **more)
    assert shown.colour == colour
    assert line in shown.line
    assert bool(line) == bool(shown.line)
    assert tip in shown.tip


def test_the_heading_counts_what_passed_or_says_why_not():
    assert checkup_heading((GOOD, BAD)) == "1 of 2 checks passed."
    assert checkup_heading((GOOD,)) == "All 1 checks passed."
    assert "Nothing" in checkup_heading(())
    assert checkup_heading((GOOD,), failure="It stopped.") == "It stopped."
    assert checkup_heading((GOOD,), is_checking=True).startswith("Checking")

import pytest

from microscope.views.theme import apply_theme


@pytest.fixture(autouse=True)
def _dressed(qapp):
    """Every test starts in the dark theme at its usual size."""
    apply_theme(qapp, "dark")

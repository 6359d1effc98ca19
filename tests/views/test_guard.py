import logging

from PySide6.QtWidgets import QWidget

from microscope.views.guard import guarded, guarded_else


class Clumsy(QWidget):
    n_paints = 0

    @guarded
    def paintEvent(self, event):
        self.n_paints += 1
        raise RuntimeError("the brush broke")

    @guarded_else(42)
    def heightForWidth(self, width):
        raise ValueError(width)


def test_an_exception_in_a_paint_override_is_logged_and_goes_no_further(qtbot, caplog):
    widget = Clumsy()
    qtbot.addWidget(widget)
    with caplog.at_level(logging.ERROR):
        widget.grab()
    assert widget.n_paints == 1
    assert "Clumsy.paintEvent failed" in caplog.text
    assert "the brush broke" in caplog.text


def test_an_override_that_must_answer_gives_the_other_answer(qtbot):
    widget = Clumsy()
    qtbot.addWidget(widget)
    assert widget.heightForWidth(3) == 42

"""Every layer's guess for every token: the heatmap with its colour choice, legend and card."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from PySide6.QtCore import QEvent, QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QScrollBar,
    QStackedWidget,
    QToolButton,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from microscope.session.derived import (
    HeatColour,
    cell_bars,
    engine_line,
    heat,
    heatmap_hint,
    shades,
    site_sentence,
    visible_text,
)
from microscope.views.cell_card import CellCard
from microscope.views.guard import guarded
from microscope.views.heatmap_graph import HeatmapGraph
from microscope.views.heatmap_legend import HeatmapLegend
from microscope.views.notice import EmptyPage, Notice, label

if TYPE_CHECKING:
    from microscope.core.cards import ModelCard
    from microscope.session.session import Cursor, Session

_LEAST_COMBO_PX = 120
_BAR_STEPS = 100  # scroll bar steps in a token
_ABOUT_LENS = (
    "Raw logit lens: the residual stream after each layer, passed through the model's own\n"
    "final norm and unembedding as if the layers above were not there. The top row is the\n"
    "model's real output; lower rows are what it would say if it had to answer so early."
)


class HeatmapPanel(QWidget):
    """Shows `session.lens`; emits the cell that the user chooses."""

    cell_chosen = Signal(int, int)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._graph, self._legend = HeatmapGraph(), HeatmapLegend()
        self._colour = QComboBox()
        self._colour.addItem("probability of the first guess", "probability")
        self._colour.addItem("entropy (how undecided)", "entropy")
        self._colour.setAccessibleName("Colour of the cells")
        self._colour.setMinimumWidth(_LEAST_COMBO_PX)  # gives way in a small window
        self._about = QToolButton()
        self._scroll = QScrollBar(Qt.Orientation.Horizontal)
        keep = self._scroll.sizePolicy()
        keep.setRetainSizeWhenHidden(True)  # else the cells jump when it comes and goes
        self._scroll.setSizePolicy(keep)
        self._empty, self._notice, self._pages = EmptyPage(), Notice(), QStackedWidget()
        self._lay_out()
        self._card = CellCard(self)
        self._connect()
        self._follow()

    def _lay_out(self) -> None:
        line = QHBoxLayout()
        line.addWidget(label("Colour", "hint"))
        line.addWidget(self._colour)
        line.addSpacing(10)
        line.addWidget(self._legend)
        line.addStretch(1)
        self._about.setText("raw logit lens: what is this?")
        self._about.setProperty("role", "flat")
        self._about.setToolTip(_ABOUT_LENS)
        line.addWidget(self._about)
        filled = QWidget()
        inside = QVBoxLayout(filled)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(4)
        inside.addLayout(line)
        inside.addWidget(self._graph, 1)
        inside.addWidget(self._scroll)
        self._pages.addWidget(self._empty)
        self._pages.addWidget(filled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 2, 10, 8)
        layout.addWidget(self._notice)
        layout.addWidget(self._pages, 1)

    def _connect(self) -> None:
        self._graph.cell_chosen.connect(self.cell_chosen)
        self._about.clicked.connect(self._on_about)
        self._graph.cell_hovered.connect(self._show_card)
        self._graph.hover_ended.connect(self._card.hide)
        self._graph.range_changed.connect(self._show_range)
        self._scroll.valueChanged.connect(self._on_scrolled)
        self._colour.currentIndexChanged.connect(self._show_lens)

    def _follow(self) -> None:
        events = self._session.events
        events.lens.connect(self._show_lens)
        events.tokens.connect(self._show_hint)
        events.is_reading.connect(self._show_hint)
        events.cursor.connect(self._show_cursor)
        events.model.connect(self._show_model)
        events.engine.connect(self._show_engine)
        events.failures.connect(self._show_failures)
        self._show_model(self._session.model)
        self._show_cursor(self._session.cursor)
        self._show_failures()

    def _show_model(self, model: ModelCard | None) -> None:
        self._graph.forget_texts()
        self._show_lens()

    def _show_cursor(self, cursor: Cursor) -> None:
        self._graph.show_cursor(cursor.token, cursor.site)

    def _show_failures(self) -> None:
        engine = self._session.engine
        lost = engine_line(engine) if engine.status == "lost" else ""
        self._notice.say(lost or self._session.failures.get("model", ""))

    def _show_engine(self) -> None:
        self._show_hint()
        self._show_failures()

    def _show_hint(self) -> None:
        session = self._session
        hint = heatmap_hint(
            session.model,
            session.engine,
            session.tokens,
            is_reading=session.is_reading,
            can_undo=session.can_undo,
        )
        self._empty.say(*hint)

    def _show_lens(self) -> None:
        lens, model = self._session.lens, self._session.model
        has_cells = lens is not None and lens.n_tokens > 0 and model is not None
        self._pages.setCurrentIndex(int(has_cells))
        self._card.hide()
        self._show_hint()
        if lens is None or model is None or not has_cells:
            return
        colour = cast("HeatColour", self._colour.currentData())
        self._graph.show_cells(lens, shades(heat(lens, colour, model.n_vocabulary)))
        if colour == "probability":
            self._legend.show_ends("0 %", "100 %")
        else:
            most = math.log(max(model.n_vocabulary, 2))
            self._legend.show_ends("0 nats: certain", f"{most:.1f}: no idea")

    def _show_range(self) -> None:
        first, last = self._graph.columns_in_view()
        n_tokens = self._session.lens.n_tokens if self._session.lens else 0
        with QSignalBlocker(self._scroll):
            self._scroll.setRange(0, round(max(n_tokens - (last - first), 0) * _BAR_STEPS))
            self._scroll.setPageStep(max(round((last - first) * _BAR_STEPS), 1))
            self._scroll.setSingleStep(_BAR_STEPS)
            self._scroll.setValue(round(first * _BAR_STEPS))
        self._scroll.setVisible(self._scroll.maximum() > 0)
        self._card.hide()

    def _show_card(self, token: int, site: int) -> None:
        lens = self._session.lens
        bars = cell_bars(lens, token, site) if lens else ()
        if lens is None or not bars:
            self._card.hide()
            return
        word = visible_text(lens.tokens[token].text)
        title = f"after “{word}”, {site_sentence(lens.sites[site])}"
        foot = f"entropy {lens.entropy[site, token]:.2f} nats"
        box = self._graph.cell_box(token, site).toRect()
        box.moveTopLeft(self._graph.mapTo(self, box.topLeft()))
        self._card.show_cell(title, bars, foot, box)

    def _on_about(self) -> None:
        corner = self._about.mapToGlobal(self._about.rect().bottomLeft())
        QToolTip.showText(corner, _ABOUT_LENS, self._about)

    def _on_scrolled(self, steps: int) -> None:
        self._graph.scroll_to(steps / _BAR_STEPS)

    @guarded
    def leaveEvent(self, event: QEvent) -> None:
        """The mouse has gone."""
        self._card.hide()

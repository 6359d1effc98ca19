"""How far a download is, and a way to stop it; takes no room while there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QWidget

from microscope.session.library_view import download_line, download_share
from microscope.views.notice import ElidedLabel

if TYPE_CHECKING:
    from microscope.session.library import DownloadState

_STEPS = 1000


class DownloadStrip(QWidget):
    """Emits `cancelled` when the user has had enough."""

    cancelled = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._line, self._bar, self._cancel = ElidedLabel(), QProgressBar(), QPushButton("Stop")
        self._bar.setTextVisible(False)
        self._bar.setFixedSize(260, 10)
        self._cancel.setToolTip("What has come is kept; the next time goes on from there.")
        self._cancel.setAutoDefault(False)
        self._cancel.clicked.connect(self._on_cancel)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(2, 0, 2, 0)
        layout.addWidget(self._line, 1)
        layout.addWidget(self._bar)
        layout.addWidget(self._cancel)
        self.hide()

    def show_download(self, download: DownloadState | None) -> None:
        """Follow a download, or the end of it."""
        self.setVisible(download is not None)
        if download is None:
            return
        share = download_share(download)
        self._line.say(download_line(download))
        self._bar.setRange(0, 0 if share is None else _STEPS)  # 0 to 0: no end known
        self._bar.setValue(round((share or 0.0) * _STEPS))

    def _on_cancel(self) -> None:
        self.cancelled.emit()

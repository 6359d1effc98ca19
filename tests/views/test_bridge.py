import threading

from microscope.core.messages import RunFinished
from microscope.views.bridge import GuiThreadBridge


class Listener:
    def __init__(self):
        self.heard = []

    def hear(self, event):
        self.heard.append((event.run_id, threading.current_thread()))


def test_events_posted_on_another_thread_arrive_here_and_in_order(qtbot):
    bridge, listener = GuiThreadBridge(), Listener()
    bridge.arrived.connect(listener.hear)
    poster = threading.Thread(
        target=lambda: [bridge.post(RunFinished(run_id=i)) for i in range(100)]
    )
    poster.start()
    poster.join()
    qtbot.waitUntil(lambda: len(listener.heard) == 100)
    assert listener.heard == [(i, threading.main_thread()) for i in range(100)]

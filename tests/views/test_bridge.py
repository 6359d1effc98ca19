import threading

from microscope.core.messages import RunFinished
from microscope.views.bridge import GuiThreadBridge


class Listener:
    def __init__(self):
        self.heard = []

        self.batches = []

    def hear(self, batch):
        self.batches.append(len(batch))
        self.heard += [(event.run_id, threading.current_thread()) for event in batch]


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


def test_a_flood_of_events_comes_in_few_batches(qtbot):
    bridge, listener = GuiThreadBridge(), Listener()
    bridge.arrived.connect(listener.hear)
    for n in range(1000):
        bridge.post(RunFinished(run_id=n))
    qtbot.waitUntil(lambda: len(listener.heard) == 1000)
    assert listener.batches == [1000]


def test_events_that_come_one_by_one_are_all_delivered(qtbot):
    bridge, listener = GuiThreadBridge(), Listener()
    bridge.arrived.connect(listener.hear)
    for n in range(5):
        bridge.post(RunFinished(run_id=n))
        qtbot.waitUntil(lambda n=n: len(listener.heard) == n + 1)

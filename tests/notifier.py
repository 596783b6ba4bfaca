# SPDX-License-Identifier: Apache-2.0
"""A service manager that writes down what it is told."""


class RecordingNotifier:
    """See discluster.notify.Notifier. ``told``: statuses, and READY, RELOADING, STOPPING."""

    def __init__(self, interval: float | None = None) -> None:
        self.watchdog_interval = interval
        self.told: list[str] = []
        self.fed = 0

    def ready(self) -> None:
        self.told.append("READY")

    def status(self, text: str) -> None:
        self.told.append(text)

    def watchdog(self) -> None:
        self.fed += 1

    def reloading(self) -> None:
        self.told.append("RELOADING")

    def stopping(self) -> None:
        self.told.append("STOPPING")

"""Load of the machine during a run."""

from __future__ import annotations

from collections.abc import Callable

INTERVAL = 5.0  # seconds between measurements


def watch_system(run_id: str, tracking_uri: str) -> Callable[[], None]:
    """Log CPU, memory, disk and, where NVML works, GPU load under ``system/`` until the returned function is called;
    nothing where psutil does not work."""
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            run_id, sampling_interval=INTERVAL, samples_before_logging=1, tracking_uri=tracking_uri
        )
        monitor.start()
    except Exception:
        return lambda: None
    return monitor.finish

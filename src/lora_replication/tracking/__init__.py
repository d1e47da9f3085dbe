"""The only part that knows MLflow: a mirror of the records, for looking at. It never costs a run, and ``sync`` can rebuild it.

Without MLflow, or with an address that does not answer, a run says so once and goes on.
"""

from lora_replication.tracking.live import LiveRun, live_run
from lora_replication.tracking.rebuild import SyncResult, sync

__all__ = ["LiveRun", "SyncResult", "live_run", "sync"]

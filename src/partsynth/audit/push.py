"""Everything that live runs refer to, sent to a remote; of runs whose data was taken down nothing is asked."""

from __future__ import annotations

from pathlib import Path

from partsynth.audit.result import Fault, Result
from partsynth.audit.runs import all_runs, recorded_graph
from partsynth.errors import UserError
from partsynth.lineage.graph import outputs
from partsynth.lineage.objects import Objects
from partsynth.tracking.takedown import TAKEDOWN


def push_runs(root: Path, remote: str | None = None) -> Result:
    """Send what every live run's stage graph refers to; `dvc push` alone knows the present dvc.lock only."""
    root = root.resolve()
    faults: list[Fault] = []
    sent = 0
    with Objects(root) as objects:
        uncached = {path for stage in objects.pipeline().values() for path in stage.uncached}
        wanted: dict[str, str] = {}  # md5 -> path
        live = [run for run in all_runs(root) if run.live and TAKEDOWN not in run.tags]
        for run in live:
            try:
                made = outputs(recorded_graph(root, run)["stages"])
            except UserError as error:
                faults.append(Fault(run.run_id, str(error)))
            else:
                wanted |= {md5: path for path, md5 in made.items() if path not in uncached}
        if lacking := objects.fetch(wanted):
            gone = {md5: path for md5, path in wanted.items() if md5 in lacking or objects.missing([md5])}
            faults += [Fault(path, f"neither the cache nor a remote has {md5}") for md5, path in gone.items()]
            wanted = {md5: path for md5, path in wanted.items() if md5 not in gone}
        try:
            sent = objects.push(wanted, remote) if wanted else 0  # at once: a remote out of reach is waited for once
        except UserError as error:
            faults.append(Fault(remote or "remote", str(error)))
    return Result("push", {"runs": len(live), "objects": len(wanted), "sent": sent}, faults)

"""Everything that live runs refer to, sent to a remote."""

from __future__ import annotations

from pathlib import Path

from partsynth.audit.result import Result
from partsynth.audit.runs import all_runs, outputs, stage_graph
from partsynth.audit.workspace import Fault
from partsynth.errors import UserError
from partsynth.lineage.objects import Objects


def push(root: Path, remote: str | None = None) -> Result:
    """Send what every live run's stage graph refers to; `dvc push` alone knows the present dvc.lock only."""
    root = root.resolve()
    faults: list[Fault] = []
    sent: dict[str, int] = {}
    with Objects(root) as objects:
        uncached = {path for stage in objects.pipeline().values() for path in stage["uncached"]}
        wanted: dict[str, str] = {}
        live = [run for run in all_runs(root) if run.live]
        for item in live:
            try:
                wanted |= {md5: path for path, md5 in outputs(stage_graph(root, item)).items() if path not in uncached}
            except UserError as error:
                faults.append(Fault(item.run_id, str(error)))
        objects.fetch(wanted)
        for md5, path in sorted(wanted.items(), key=lambda pair: pair[1]):
            try:
                sent[path] = sent.get(path, 0) + objects.push([md5], remote)
            except UserError as error:
                faults.append(Fault(path, str(error)))
    return Result("push", {"runs": len(live), "objects": len(wanted), "sent": sum(sent.values())}, faults)

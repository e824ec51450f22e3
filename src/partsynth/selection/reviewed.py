"""What a person's decision changes of a verdict, and where it keeps an image out.

A decision says what an image shows, not what it is for, so that one serves every setup of the set:

============  =======================================  =====================================================
decision      positives                                negatives
============  =======================================  =====================================================
accept        the verdict becomes accept               out: it would push its class from an image of the class
drop          out                                      out
other_class   out: it would be a wrong label           the verdict becomes drop for other_class, a hard negative
unsure        as the gate says                         as the gate says
============  =======================================  =====================================================

The rule then decides by that verdict, as by the gate's own; what is measured of an image (drift, percentile) stays as
it is. Where the setup says ``train: {negative_scope: other}``, its negatives are positives of their class to the loss:
accept and other_class then count as for positives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from partsynth.config.training import SelectSetup
from partsynth.records.review import ReviewRecord, decided, image_of
from partsynth.records.rows import Record, VerdictRecord


def obeyed(rows: Sequence[ReviewRecord], images: Iterable[Record]) -> dict[str, ReviewRecord]:
    """Path of an image -> the decision on it; decisions on other bytes than the image has are left out."""
    final = decided(rows)
    return {i.path: decision for i in images if (decision := final.get(image_of(i))) is not None}


def keeps_out(decision: ReviewRecord, params: SelectSetup) -> bool:
    """Whether the setup must not take the image, whatever its rule says."""
    if decision.decision == "drop":
        return True
    return decision.decision == ("other_class" if teaches_its_class(params) else "accept")


def teaches_its_class(params: SelectSetup) -> bool:
    """Whether the setup uses its images as ones of their class: as positives, or as negatives of the others."""
    return params.role == "positive" or (params.train is not None and params.train.negative_scope == "other")


def reviewed(verdict: VerdictRecord, decision: ReviewRecord | None) -> VerdictRecord:
    """The verdict as a person left it."""
    if decision is None or decision.decision == "unsure":
        return verdict
    changes: Mapping[str, str]
    if decision.decision == "accept":
        changes = {"verdict": "accept", "reasons": "", "nearest_class": verdict.class_name}
    else:
        reasons = {*filter(None, verdict.reasons.split(";")), decision.decision}
        changes = {"verdict": "drop", "reasons": ";".join(sorted(reasons)), "nearest_class": decision.other_class}
    return verdict.model_copy(update=dict(changes))

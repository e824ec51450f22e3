"""The page for people: read what the other stages made, show it, write it."""

from __future__ import annotations

from partsynth.reporting.inputs import Inputs, read_contents
from partsynth.reporting.page import page
from partsynth.store.files import write_text_atomic


def run(inputs: Inputs) -> None:
    """Write the page ``inputs.out``.

    Raises
    ------
    UserError
        where an input is missing, damaged or of another version.
    """
    write_text_atomic(inputs.out, page(read_contents(inputs)))
    print(f"report: {inputs.out} ({inputs.out.stat().st_size / 1e6:.1f} MB)")

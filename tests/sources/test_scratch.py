from __future__ import annotations

from partsynth.sources.scratch import Scratch


def test_what_was_put_is_got_in_any_order_and_no_file_has_a_name(tmp_path):
    with Scratch(tmp_path / "new") as scratch:
        spans = [scratch.put(data) for data in (b"one", b"", b"three")]
        assert [scratch.get(span) for span in reversed(spans)] == [b"three", b"", b"one"]
        assert list((tmp_path / "new").iterdir()) == []

from __future__ import annotations

from typing import Any

import pytest
from helpers.pretraining import CAPTIONS

from partsynth.core.pretraining.networks import build_tokenizer


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build_tokenizer(CAPTIONS, tmp_path_factory.mktemp("tokenizer"))

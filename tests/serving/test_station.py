"""The station's plain code reads and frames as partsynth's ingest does, and joins views as it says."""

from __future__ import annotations

import ast
import io

import numpy as np
import pytest
from helpers import exports
from PIL import Image

from partsynth.core.images.framing import crop_resize, middle_square, roi_box
from partsynth.serving import station
from partsynth.serving.network import to_onnx
from partsynth.sources.decode import decode

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_alpha(alpha: np.ndarray) -> Image.Image:
    image = Image.fromarray(PIXELS).convert("RGBA")
    image.putalpha(Image.fromarray(alpha))
    return image


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


FILES = {
    "RGB": encoded(Image.fromarray(PIXELS)),
    "JPEG": encoded(Image.fromarray(PIXELS), "JPEG"),
    "turned": encoded(Image.fromarray(PIXELS), "JPEG", exif=turned()),
    "CMYK": encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"),
    "grey": encoded(Image.fromarray(PIXELS[..., 0])),
    "palette": encoded(Image.fromarray(PIXELS).quantize(16)),
    "16 bits": encoded(Image.fromarray(RNG.integers(0, 65536, (20, 30), dtype=np.uint16))),
    "alpha": encoded(with_alpha(RNG.integers(0, 256, (20, 30), dtype=np.uint8))),
    "camera's alpha": encoded(with_alpha(np.zeros((20, 30), np.uint8))),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "model.onnx"
    file.write_bytes(to_onnx(exports.network(), exports.metadata()))
    return station.Station(file)


@pytest.mark.parametrize("kind", FILES)
def test_images_are_decoded_as_by_ingest(kind):
    np.testing.assert_array_equal(station.decoded(FILES[kind]), np.asarray(decode(FILES[kind])))


@pytest.mark.parametrize("shape", [(20, 30), (31, 20), (25, 25), (20, 21)])
def test_images_are_framed_as_by_ingest(shape):
    pixels = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    image, size = Image.fromarray(pixels), shape[::-1]
    for unmasked, box in (("whole", roi_box(np.ones(shape, np.uint8), 0)), ("centre", middle_square(size))):
        wanted = crop_resize(image, box, box[2] - box[0], Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(station.framed(pixels, unmasked), np.asarray(wanted))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "an empty file"),
        (b"no image", "no image that can be read"),
        (FILES["RGB"][:200], "no image that can be read"),
        (encoded(Image.new("RGB", (7, 30))), "only 7 x 30 pixels"),
        (encoded(Image.new("F", (9, 9)), "TIFF"), "floating-point"),
    ],
)
def test_what_cannot_be_used_is_told(data, why):
    with pytest.raises(station.Unreadable, match=why):
        station.decoded(data)


def test_an_answer_says_the_outputs_in_words(made):
    raw = made.raw(FILES["RGB"])
    answer = made.answer(raw)
    assert answer["class"] == exports.CLASSES[raw["probabilities"].argmax()]
    assert answer["probability"] == pytest.approx(raw["probabilities"].max())
    assert answer["prediction_set"] == [
        c for c, p in zip(exports.CLASSES, raw["probabilities"], strict=True) if p >= 0.1
    ]
    assert answer["unknown"] == (answer["ood_score"] > 0.05)
    distances = [item["distance"] for item in answer["nearest"]]
    assert len(distances) == 5 and distances == sorted(distances)
    assert answer["ood_score"] == pytest.approx(distances[1])  # kNN with k = 2
    assert answer["nearest"][0]["path"] == f"data/real/train/{raw['nearest'][0]}.png"


def test_a_part_is_the_mean_of_its_images_log_probabilities_and_scores(made):
    def view(probabilities: list[float], score: float) -> dict[str, np.ndarray]:
        return {"probabilities": np.array(probabilities, np.float32), "ood_score": np.float32(score)}

    # the arithmetic mean would say bolt: 0.5 against 0.45
    found = made.part([view([0.98, 0.01, 0.01], 0.01), view([0.02, 0.9, 0.08], 0.08)])
    logs = np.log([[0.98, 0.01, 0.01], [0.02, 0.9, 0.08]]).mean(axis=0)
    assert found["class"] == "bolt" and found["probability"] == pytest.approx(np.exp(logs[0]) / np.exp(logs).sum())
    assert found["images"] == 2 and found["ood_score"] == pytest.approx(0.045) and not found["unknown"]
    assert made.part([view([1, 0, 0], 0.01), view([1, 0, 0], 0.2)])["unknown"]
    # one image that rules a class out weighs more than two that lean to it
    views = [view([0.55, 0.45, 0], 0), view([0.55, 0.45, 0], 0), view([1e-6, 0.5, 0.5], 0)]
    assert made.part(views)["class"] == "gear"


def test_the_code_that_an_export_holds_imports_nothing_of_partsynth():
    from partsynth.serving import mlflow_files

    for name in ("station.py", "mlflow_model.py"):
        tree = ast.parse((mlflow_files.HERE / name).read_text())
        named = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        named |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
        allowed = {"__future__", "base64", "binascii", "io", "json", "pathlib", "typing"}
        assert {n.split(".")[0] for n in named} <= allowed | {
            "mlflow",
            "numpy",
            "onnxruntime",
            "pandas",
            "PIL",
            "partsynth_station",
        }

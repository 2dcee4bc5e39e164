"""A model classifies images: it is loaded once per worker process and called with many images at a time.

::

    prepare ──> image files ──> classify: read (threads) -> predict (processes, setup) -> table digits

The first task prepares the data: it draws digits (shifted, noisy) as PGM files of 12 x 12 pixels, and writes the
weights of a model that knows their font. The second task is the pipeline: threads read files, each worker process loads
the model once (``setup``) and gets 64 images per call (``batch_size``), which NumPy multiplies at once. The last task
fails when the model is less accurate than required.

Needs: NumPy, and a SQLite connection ``examples_db``. Files go to ``image_inference/`` under ``AIRFLOW_HOME``.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, dag, task

from airflow_parallel_provider import ParallelPipelineOperator, SinkTable, Stage

if TYPE_CHECKING:
    import numpy as np

SIDE = 12
NOISE = 45.0
"""Standard deviation of the noise, of 255."""
ACCURACY = 0.95
"""Share of the images that the model must read correctly."""

FONT = """
.###. ..#.. .###. .###. ...#. ##### .###. ##### .###. .###.
#...# .##.. #...# #...# ..##. #.... #.... ....# #...# #...#
#..## ..#.. ....# ....# .#.#. ####. ####. ...#. #...# #...#
#.#.# ..#.. ...#. ..##. #..#. ....# #...# ..#.. .###. .####
##..# ..#.. ..#.. ....# ##### ....# #...# ..#.. #...# ....#
#...# ..#.. .#... #...# ...#. #...# #...# .#... #...# ....#
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .###.
"""


def folder() -> Path:
    """The folder of the files; each process determines it again."""
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "image_inference"


# -- the data: images and a model ------------------------------------------------------------------


def glyphs() -> "np.ndarray":
    """The ten digits, 7 x 5 pixels each, True where there is ink."""
    import numpy as np

    lines = [line.split() for line in FONT.strip().splitlines()]
    return np.array([[[pixel == "#" for pixel in line[digit]] for line in lines] for digit in range(10)])


def place(glyph: "np.ndarray", down: int, right: int) -> "np.ndarray":
    """An image with the glyph at a position, dark on light."""
    import numpy as np

    image = np.full((SIDE, SIDE), 220.0)
    image[down : down + 7, right : right + 5][glyph] = 40.0
    return image


def draw(numbers: "np.ndarray", seed: int) -> "np.ndarray":
    """One image per number (its last digit), flattened, with noise."""
    import numpy as np

    random = np.random.default_rng(seed)
    ink = glyphs()
    places = random.integers(0, [SIDE - 6, SIDE - 4], (len(numbers), 2)).tolist()
    images = [place(ink[each % 10], down, right) for each, (down, right) in zip(numbers, places, strict=True)]
    noisy = np.array(images) + random.normal(0, NOISE, (len(numbers), SIDE, SIDE))
    return np.clip(noisy, 0, 255).astype(np.uint8).reshape(len(numbers), -1)


def make_model() -> dict[str, "np.ndarray"]:
    """A linear model: one row of weights per digit and position, which is optimal for this kind of noise."""
    import numpy as np

    ink, places = glyphs(), [(down, right) for down in range(SIDE - 6) for right in range(SIDE - 4)]
    weights = np.array([place(ink[digit], *at).ravel() for digit in range(10) for at in places])
    return {"weights": weights, "bias": -(weights**2).sum(axis=1) / 2}


def write_pgm(path: Path, pixels: "np.ndarray") -> None:
    """Write a gray image in the PGM format."""
    path.write_bytes(b"P5 %d %d 255\n" % (SIDE, SIDE) + pixels.tobytes())


# -- the pipeline ----------------------------------------------------------------------------------


def image_files() -> list[str]:
    """All images, sorted: a retry must find the same files in the same order."""
    return sorted(map(str, folder().glob("images/*.pgm")))


def read(path: str) -> tuple[str, bytes]:
    """Name and pixels of a file."""
    header, pixels = Path(path).read_bytes().split(b"\n", 1)
    if header != b"P5 %d %d 255" % (SIDE, SIDE):
        raise ValueError(f"{path} is not an image of {SIDE} x {SIDE} pixels")
    return Path(path).stem, pixels


def load_model() -> dict[str, "np.ndarray"]:
    """Load the model: once in each worker process, not once per image."""
    import numpy as np

    with np.load(folder() / "model.npz") as arrays:
        return dict(arrays)


def predict(images: list[tuple[str, bytes]], model: dict[str, "np.ndarray"]) -> list[dict[str, Any]]:
    """One row per image: the digit, and the margin of its score over the second best."""
    import numpy as np

    pixels = np.frombuffer(b"".join(each for _, each in images), dtype=np.uint8).reshape(len(images), -1)
    scores = (pixels @ model["weights"].T + model["bias"]).reshape(len(images), 10, -1).max(axis=2) / 255**2
    ranked = np.sort(scores, axis=1)
    return [
        {"image": name, "digit": int(best), "margin": round(float(margin), 4)}
        for (name, _), best, margin in zip(images, scores.argmax(axis=1), ranked[:, -1] - ranked[:, -2], strict=True)
    ]


@dag(
    schedule=None,
    catchup=False,
    tags=["example", "parallel"],
    doc_md=__doc__,
    params={"images": Param(2000, type="integer", minimum=10)},
)
def image_inference() -> None:
    """Read digits."""

    @task
    def prepare(params: dict[str, Any] | None = None) -> None:
        import numpy as np

        assert params is not None
        target = folder() / "images"
        target.mkdir(parents=True, exist_ok=True)
        for left in target.iterdir():
            left.unlink()
        numbers = np.arange(params["images"])
        for number, pixels in zip(numbers, draw(numbers, seed=1), strict=True):
            write_pgm(target / f"{number:06d}.pgm", pixels)
        model = make_model()
        np.savez(folder() / "model.npz", weights=model["weights"], bias=model["bias"])

    classify = ParallelPipelineOperator(
        task_id="classify",
        source=image_files,
        stages=[
            Stage(read, workers=8),
            Stage(predict, kind="process", batch_size=64, setup=load_model),
        ],
        sink=SinkTable("digits", conn_id="examples_db", write_disposition="merge", primary_key=["image"]),
        chunk_size=500,
    )

    @task
    def check() -> float:
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        rows = SqliteHook("examples_db").get_records("SELECT image, digit FROM digits")
        share: float = sum(int(image) % 10 == digit for image, digit in rows) / len(rows)
        if share < ACCURACY:
            raise ValueError(f"the model read {share:.1%} of the images correctly, less than {ACCURACY:.0%}")
        return share

    prepare() >> classify >> check()


image_inference()

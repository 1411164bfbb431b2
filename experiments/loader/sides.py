"""One measurement in one process; run.py starts it. Prints its figures as one line of JSON."""

import argparse
import collections
import concurrent.futures
import itertools
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH, SIZE = 256, 320, 224
EPISODE = 40  # steps
ROW = {
    "name": "frames",
    "camera": "observation/image",
    "instruction": "language_instruction",
    "action": "action",
    "action_spec": "rt2",
    "state": None,
    "drop_first": False,
    "drop_last": "never",
    "terminate": "never",
    "empty_instruction": "refuse",
    "bounds": "min_max",
}


def texture(rng: np.random.Generator) -> np.ndarray:
    """A large picture with detail at every scale, uint8 [2048, 2048, 3]."""
    layers = np.zeros((2048, 2048, 3), np.float32)
    for cells, weight in ((8, 60), (64, 40), (512, 24), (1024, 12)):
        noise = rng.normal(0, weight, (cells, cells, 3)).astype(np.float32)
        layers += cv2.resize(noise, (2048, 2048), interpolation=cv2.INTER_CUBIC)
    return np.clip(layers + 128, 0, 255).astype(np.uint8)


def episodes(steps: int) -> Iterator[tuple[int, dict]]:
    """Episodes of a window that drifts over the texture, as JPEG of quality 90."""
    rng = np.random.default_rng(0)
    canvas = texture(rng)
    for number in range(steps // EPISODE):
        at = rng.integers(400, 1300, 2).astype(float)
        rows = []
        for t in range(EPISODE):
            at += rng.normal(0, 4, 2)
            y, x = at.astype(int)
            frame = canvas[y : y + HEIGHT, x : x + WIDTH]
            data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
            row = {"observation": {"image": data}, "action": rng.normal(size=7).astype(np.float32)}
            row |= {"language_instruction": f"task {number % 50}"}
            rows.append(row | {"is_first": t == 0, "is_last": t == EPISODE - 1})
        yield number, {"steps": rows}


def generate(data: Path, steps: int) -> None:
    """Writes the RLDS set with tensorflow-datasets."""
    import tensorflow_datasets as tfds

    class Frames(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        url_infos = {}  # nothing is downloaded

        def _info(self):
            f = tfds.features
            image = f.Image(shape=(HEIGHT, WIDTH, 3), encoding_format="jpeg")
            step = {"observation": {"image": image}, "language_instruction": f.Text()}
            step |= {"action": f.Tensor(shape=(7,), dtype=np.float32)}
            step |= {"is_first": np.bool_, "is_last": np.bool_}
            features = f.FeaturesDict({"steps": f.Dataset(step)})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": episodes(steps)}

        def _generate_examples(self):
            raise NotImplementedError

    config = tfds.download.DownloadConfig(try_download_gcs=False, num_shards=8)
    Frames(data_dir=data).download_and_prepare(download_config=config)


def build_index(directory: Path) -> dict[str, float]:
    """Speed of the index pass with one worker, in MB of shards a second."""
    from rt2.data import index

    size = sum(path.stat().st_size for path in directory.glob("*.tfrecord*"))
    for path in directory.glob("*.tfrecord*"):
        path.read_bytes()  # into the page cache: the pass is measured, not the disk
    start = time.perf_counter()
    index.build(directory, workers=1)
    return {"mb_per_s": size / 1e6 / (time.perf_counter() - start)}


def ours(directory: Path, args: argparse.Namespace) -> Iterator[np.ndarray]:
    """Batches through the index, uint8 [batch, 224, 224, 3]."""
    from rt2.data import image, specs
    from rt2.data.mixture import Mixture
    from rt2.data.robot import RobotExamples

    examples = RobotExamples(directory, "train", specs.from_config(ROW))

    def transform(example, draw):
        return {"image": image.resize(example.images[0], SIZE), "action": example.action}

    mixture = Mixture({"frames": (examples, args.batch_size)}, args.batch_size, 0, transform)
    for batch in mixture.iterate(0, range(mixture.batch_size), threads=args.threads, prefetch=1):
        yield batch["image"]


def limit(directory: Path, args: argparse.Namespace) -> Iterator[np.ndarray]:
    """The machine's own limit: the same decoding and resizing of images that lie in memory.

    Batches uint8 [batch, 224, 224, 3], a thread filling its own over and over, nothing else done.
    """
    from rt2.data import image
    from rt2.data.prefetch import keep_freed_memory
    from rt2.data.rlds import RldsSteps

    keep_freed_memory()
    steps = RldsSteps(directory, "train", decode_images=False)
    order = np.random.default_rng(0).permutation(len(steps))[:4096]
    encoded = [steps.value(ROW["camera"], int(i)) for i in order]
    cv2.setNumThreads(1)

    own = threading.local()

    def fill(first: int) -> np.ndarray:
        if not hasattr(own, "batch"):
            own.batch = np.zeros((args.batch_size, SIZE, SIZE, 3), np.uint8)
        for row in range(args.batch_size):
            data = encoded[(first + row) % len(encoded)]
            own.batch[row] = image.resize(image.decode(data), SIZE)
        return own.batch

    with concurrent.futures.ThreadPoolExecutor(args.threads) as executor:
        firsts = itertools.count(0, args.batch_size)
        running = collections.deque(
            executor.submit(fill, next(firsts)) for _ in range(2 * args.threads)
        )
        while True:
            yield running.popleft().result()
            running.append(executor.submit(fill, next(firsts)))


def growth(batches: Iterator[np.ndarray], count: int) -> dict[str, float]:
    """How much the resident set grows from batch `count` / 10 to batch `count`, in MB."""
    for _ in itertools.islice(batches, count // 10):
        pass
    before = resident_mb()
    for _ in itertools.islice(batches, count - count // 10):
        pass
    return {"rss_growth_mb": resident_mb() - before}


def resident_mb() -> float:
    """The resident set of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def tfdata(directory: Path, args: argparse.Namespace, method: str) -> Iterator[np.ndarray]:
    """Batches through tf.data in Octo's order, uint8 [batch, 224, 224, 3]; `method` of resizing."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    builder = tfds.builder_from_directory(directory)
    skip = {"steps": tfds.decode.SkipDecoding()}
    dataset = builder.as_dataset("train", decoders=skip, shuffle_files=True).repeat()

    def flatten(episode):
        steps = episode["steps"]
        row = {"image": steps["observation"]["image"], "action": steps["action"]}
        row["instruction"] = steps["language_instruction"]
        return tf.data.Dataset.from_tensor_slices(row)

    def decode(row):
        pixels = tf.io.decode_jpeg(row["image"], channels=3)
        small = tf.image.resize(pixels, (SIZE, SIZE), method=method, antialias=True)
        return row | {"image": tf.saturate_cast(tf.round(small), tf.uint8)}

    options = tf.data.Options()
    options.threading.private_threadpool_size = args.threads
    options.deterministic = False
    dataset = dataset.flat_map(flatten).shuffle(args.buffer)
    dataset = dataset.map(decode, num_parallel_calls=args.threads)
    dataset = dataset.batch(args.batch_size, drop_remainder=True).prefetch(1).with_options(options)
    for batch in dataset.as_numpy_iterator():
        yield batch["image"]


def rate(batches: Iterator[np.ndarray], started: float, seconds: float) -> dict[str, float]:
    """Throughput and CPU time after the first two batches, time to the first, peak resident set."""
    first = next(batches)
    waited = time.perf_counter() - started
    assert first.shape[1:] == (SIZE, SIZE, 3) and first.dtype == np.uint8
    next(batches)
    begin, busy, count = time.perf_counter(), time.process_time(), 0
    for batch in itertools.takewhile(lambda _: time.perf_counter() - begin < seconds, batches):
        count += len(batch)
    took, busy = time.perf_counter() - begin, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "examples_per_s": count / took,
        "cpu_ms_per_example": 1000 * busy / count,
        "peak_rss_mb": peak,
        "first_batch_s": waited,
    }


def main() -> None:
    """Measures (or generates) what the first argument names."""
    started = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", help="ours, limit, growth, tfdata:METHOD, index, generate:STEPS")
    parser.add_argument("data", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--buffer", type=int, required=True)
    parser.add_argument("--batches", type=int, required=True, help="of growth")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    directory = args.data / "frames" / "1.0.0"
    if args.side.startswith("generate:"):
        generate(args.data, int(args.side.split(":")[1]))
        figures = {}
    elif args.side == "index":
        figures = build_index(directory)
    elif args.side == "growth":
        figures = growth(ours(directory, args), args.batches)
    else:
        side, _, method = args.side.partition(":")
        if side == "tfdata":
            batches = tfdata(directory, args, method)
        else:
            batches = {"ours": ours, "limit": limit}[side](directory, args)
        figures = rate(batches, started, args.seconds)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

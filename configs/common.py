"""Every knob there is, with its default. Other configs start from this one and change fields.

Override on the command line: `--config.optimizer.learning_rate=3e-4 --config.mesh.fsdp=4`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The defaults that every config shares."""
    config = ConfigDict()
    config.seed = 0  # parameters, order of the data and augmentation
    config.num_steps = 1000
    config.batch_size = 64  # rows over all devices and hosts
    config.accumulate = 1  # parts of a batch, run in turn: less memory, the same step
    # Weights to start from: a checkpoint, our safetensors, or public ones (.safetensors, .npz or a
    # folder of them, known by their names); several with commas, each for the parts it has or for
    # the one named: "vision:siglip.npz,text:t5-large/". Empty is from scratch.
    config.init_from = ""

    config.frozen = ()  # beginnings of parameter paths that stay as init_from has them: "vision/"

    config.model = ConfigDict()
    config.model.variant = "tiny"  # rt2/models/variants.py
    config.model.dtype = "bfloat16"  # of the computation; float32 on a CPU
    config.model.remat = "none"  # what is recomputed to save memory: none, dots or full (layers.py)
    config.model.image_size = 0  # pixels; 0 keeps the variant's own
    config.history = 1  # images of the first camera in a row, the current one last
    # how observations name their cameras; those behind the first give their current image alone
    config.cameras = ("image",)

    config.tokenizer = ConfigDict()
    config.tokenizer.path = ""  # SentencePiece model; empty trains one on the sources' text
    config.tokenizer.vocab_size = 6000
    config.tokenizer.sentinels = 0  # pieces kept for span corruption; T5 has 100
    config.prompt = ConfigDict()  # what public weights saw around every question
    config.prompt.bos = False  # the tokenizer's piece that begins a text; True for PaliGemma
    config.prompt.suffix = ""  # text behind the question; a newline for PaliGemma
    config.action_vocabulary = "integer"  # or overwrite: the least frequent tokens
    config.prefix_length = 24  # tokens of a question
    config.target_length = 32  # tokens of an answer, its end included

    # name -> a row of fields; see source() below
    config.sources = ConfigDict()
    config.mixture = ""  # a row of rt2/data/mixtures.py, which joins the sources: oxe_magic_soup
    config.data_dir = ""  # where the mixture's data sets lie: data_dir/NAME/VERSION; may be a URL
    config.mixture_without = ()  # data sets of the mixture to leave out
    config.mixtures = ConfigDict()  # rows for mixtures that rt2/data/mixtures.py lacks
    # how its data sets are read (path, spec and share are its own); "train[:95%]" holds some out
    config.mixture_robot = source("robot", "", split="train", spec="", share=0.0)
    config.mixture_web = source("web", "", split="train", spec="", share=0.0)
    config.share_period = 1  # batches over which the shares are exact; 1 is every batch
    # the same form, for evaluation while training; `share` is ignored
    config.eval_sources = ConfigDict()
    config.dataset_specs = ConfigDict()  # rows for data sets that rt2/data/specs.py lacks
    config.reader_threads = 2

    config.corruption = ConfigDict()  # of text without an image, as T5 learns it
    config.corruption.density = 0.15  # share of the tokens that are hidden
    config.corruption.mean_span = 3.0  # tokens of a hidden span, on average

    config.augment = ConfigDict()
    config.augment.brightness = 0.0  # largest shift, as a part of the full range
    config.augment.contrast = 0.0  # largest change, as a factor around 1

    config.optimizer = ConfigDict()
    config.optimizer.name = "adafactor"  # or adamw, muon
    config.optimizer.learning_rate = 1e-3  # relative to each parameter with adafactor
    config.optimizer.schedule = "constant"  # or cosine, inverse_sqrt
    config.optimizer.warmup_steps = 100
    config.optimizer.b1 = 0.9  # adamw, muon
    config.optimizer.b2 = 0.98  # adamw, muon
    config.optimizer.weight_decay = 0.01  # adamw, muon
    config.optimizer.adamw_rate = 0.2  # muon: rate of what is no matrix, relative to learning_rate
    config.optimizer.clip_norm = 1.0  # global gradient norm; 0 does not clip
    config.optimizer.skip_above = 0.0  # skip a step whose norm is this times the usual; 0: none
    config.ema = 0.0  # the policy has the parameters' moving average of this decay; 0: the last

    config.mesh = ConfigDict()  # sizes multiply to the number of devices; one may be -1
    config.mesh.data = -1
    config.mesh.fsdp = 1
    config.mesh.tensor = 1
    config.sharding = "fsdp+tp"  # rt2/train/sharding.py

    config.profile = (0, 0)  # first step, and steps, of a trace in workdir/profile; 0: none
    config.log_interval = 20  # steps between rows of metrics.jsonl
    config.eval_interval = 0  # steps between evaluations; 0 evaluates at the end alone
    config.eval_rows = 256  # rows of each evaluation source
    config.save_interval = 500  # steps between checkpoints
    config.keep_checkpoints = 2
    # held-out inputs kept in the workdir, which int8 weights are rounded for; 0: none, and no int8
    config.keep_examples = 256
    return config


def source(kind: str, path: str, *, split: str, spec: str, share: float, **more) -> ConfigDict:
    """One source of examples; `more` are the fields below that are not to keep their defaults.

    kind: robot (RLDS episodes) or web (image-text). path: an RLDS version folder, or anything that
    rt2/data/vqa.py lists, on a disk or behind a URL. spec: the row of rt2/data/specs.py, for robot
    sources. share: its part of every batch; the shares are divided by their sum, 0 leaves it out.
    Beside a config.mixture it is a part of 1, and the mixture has the rest.
    """
    row = ConfigDict(dict(kind=kind, path=path, split=split, spec=spec, share=share))

    # robot: features of the cameras behind the spec's own, in the order of config.cameras
    row.cameras = ()
    # robot: one task a source; a set that serves several stands once for each, with its own share
    row.task = "action"  # or instruction, position, timesteps, success, plan: rt2/data/tasks.py
    # of the task plan: a template of the instruction and other texts of the set, as "reach for the
    # {episode_metadata/target}", or a JSON file of plans
    row.plan = ""
    # the robot's state, as integers in the question; an eval source reads what its spec trains with
    row.proprio = False
    row.statistics = ""  # file of OpenVLA, Octo, openpi or LeRobot that bounds the bins instead

    row.answer = "first"  # which accepted answer of a web row is learnt; or random, frequent
    row.format = ""  # of rt2/data/vqa.py; empty goes by the files
    row.images = ""  # folder of loose images; empty is the usual place beside the annotations
    row.language = "en"  # of web rows that name none
    row.text_only = "refuse"  # rows without an image; drop them, or keep: they are corrupted text
    row.grid = 1000  # a place is a cell of grid x grid
    row.detection = ("where", "what", "list", "detect")  # kinds of row that boxes give
    row.max_objects = 8  # largest number of objects in such a row

    # both: largest share of damaged records or samples that may be left out, counted and named
    row.quarantine = 0.0

    row.lock()
    row.update(more)
    return row

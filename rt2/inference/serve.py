"""python -m rt2.inference.serve --checkpoint=DIR: actions over a websocket, the way openpi asks.

The unmodified `openpi-client` package can talk to it (`rt2.inference.server`), and with
--rest-port OpenVLA's clients (`rt2.inference.rest`). It listens on this machine alone unless it is
given keys and TLS. SIGHUP takes up the newest checkpoint while it serves; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import logging
import pathlib
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rt2.errors import ConfigError
from rt2.inference.access import Access, ServeError, check_exposure, read_keys, read_tls
from rt2.inference.decoding import Decoding
from rt2.inference.front import Front
from rt2.inference.logs import log_json
from rt2.inference.metadata import WEIGHTS, weights_sentence
from rt2.inference.model import Model, spawn
from rt2.inference.refusal import Refusal
from rt2.inference.rest import RestServer
from rt2.inference.server import WebsocketServer

if TYPE_CHECKING:
    from rt2.playground.playground import Playground

KNOBS = dataclasses.fields(Decoding)

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Serves a checkpoint or a bundle until SIGTERM or Ctrl-C."""
    parser = _parser()
    args = parser.parse_args(argv)
    if (args.tls_cert is None) != (args.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together")
    if args.ui and args.rest_port is None:
        args.rest_port = args.port + 1 if args.port else 0
    if args.max_batch < 1:
        parser.error("--max-batch must be at least 1")
    log_json()
    try:
        access = read_keys(args.token_file) if args.token_file else Access()
        tls = read_tls(args.tls_cert, args.tls_key) if args.tls_cert else None
        check_exposure(args.host, bool(access.keys), tls is not None or args.tls_proxy)
        decoding = Decoding(**{knob.name: getattr(args, knob.name) for knob in KNOBS})
        asyncio.run(_serve(args, decoding, access, tls))
    except (ServeError, ConfigError) as error:
        sys.exit(f"error: {error}")


async def run(
    front: Front,
    host: str,
    ports: tuple[int, int | None],
    tls: ssl.SSLContext | None,
    stop: asyncio.Event,
    listening: Callable[[int, int | None], None],
    playground: Playground | None = None,
) -> None:
    """Serves until `stop` is set, then finishes the requests in flight.

    `ports` are those of websockets and, unless None, HTTP; `listening` is given them as the system
    chose. Raises ServeError where a port cannot be had or the checkpoint cannot be loaded.
    """
    websockets, rest = WebsocketServer(front), RestServer(front, playground)
    port = await websockets.listen(host, ports[0], tls)
    listening(port, None if ports[1] is None else await rest.listen(host, ports[1], tls))
    modelling, stopping = asyncio.create_task(front.run()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([modelling, stopping], return_when=asyncio.FIRST_COMPLETED)
        if modelling.done():
            modelling.result()
        front.stopping = True
        drains = [websockets.drain()] + ([] if ports[1] is None else [rest.drain()])
        await asyncio.gather(*drains)
    finally:
        modelling.cancel()
        await asyncio.wait([modelling])


async def _serve(
    args: argparse.Namespace, decoding: Decoding, access: Access, tls: ssl.SSLContext | None
) -> None:
    options = {
        "max_batch": args.max_batch,
        "decoding": dataclasses.asdict(decoding),
        "weights": args.weights,
    }
    start = functools.partial(spawn, options=options)
    model = Model(str(args.checkpoint), start, args.model_timeout)
    front, stop = Front(model, access, args.max_batch), asyncio.Event()
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(asyncio.create_task(_reload(front))))
    shown = f"[{args.host}]" if ":" in args.host else args.host

    def listening(port: int, rest: int | None) -> None:
        secure = "s" if tls else ""
        print(f"listening on ws{secure}://{shown}:{port}", flush=True)
        if rest is not None:
            print(f"OpenVLA's form: http{secure}://{shown}:{rest}/act", flush=True)
        if args.ui:
            print(f"playground: http{secure}://{shown}:{rest}/", flush=True)

    print(f"Loading and compiling {args.checkpoint} ...", flush=True)
    tasks.add(asyncio.create_task(_say_ready(model)))
    ui = _playground(front) if args.ui else None
    await run(front, args.host, (args.port, args.rest_port), tls, stop, listening, ui)


def _playground(front: Front) -> Playground:
    """The page; the simulator that it shows is loaded for it alone."""
    try:
        from rt2.playground.playground import Playground
    except ModuleNotFoundError as error:
        raise ServeError(
            f"--ui needs the simulator, and {error.name} is not installed: pip install -e '.[sim]'"
        ) from None
    return Playground(front)


async def _say_ready(model: Model) -> None:
    await model.ready.wait()
    greeting = model.greetings[model.current]
    print(weights_sentence(greeting["weights"]), flush=True)
    print(f"ready: step {greeting.get('step')}", flush=True)


async def _reload(front: Front) -> None:
    try:
        await front.reload()
    except Refusal as refusal:
        log.error("not reloaded: %s", refusal)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rt2.inference.serve", description="Serves a checkpoint to robots."
    )
    add = functools.partial(parser.add_argument, type=pathlib.Path)
    add("--checkpoint", required=True, help="a workdir, one step's folder, or a bundle")
    add("--host", type=str, default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    add("--port", type=int, default=8000, help="of websockets; 0 picks a free one (default 8000)")
    add("--rest-port", type=int, help="also serve OpenVLA's POST /act over HTTP here")
    parser.add_argument(
        "--ui", action="store_true", help="a page to try the policy in, on the REST port (PORT + 1)"
    )
    add("--token-file", help="keys that clients must send, one a line: [ask|act|admin] KEY")
    add("--tls-cert", help="PEM file with the certificate chain")
    add("--tls-key", help="PEM file with its key")
    parser.add_argument(
        "--tls-proxy", action="store_true", help="a proxy before this server encrypts"
    )
    add("--weights", type=str, choices=WEIGHTS, default="f32", help="of matrices (default f32)")
    add("--max-batch", type=int, default=8, help="requests decoded at once (default 8)")
    add("--model-timeout", type=float, default=30.0, help="seconds before a batch is given up")
    how = parser.add_argument_group("how tokens are chosen")
    for knob in KNOBS:
        said = f"{knob.metadata['help']} (default {knob.default:g})"
        flag, kind = "--" + knob.name.replace("_", "-"), type(knob.default)
        how.add_argument(flag, type=kind, default=knob.default, help=said)
    return parser


if __name__ == "__main__":
    main()

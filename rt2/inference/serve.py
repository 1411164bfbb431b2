"""python -m rt2.inference.serve --checkpoint=DIR: actions over a websocket, the way openpi asks.

The unmodified `openpi-client` package can talk to it (`rt2.inference.server`). It listens on this
machine alone unless --token-file is given; put a TLS proxy before it where the network is not
trusted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import pathlib
import signal
import sys
from collections.abc import Sequence

from rt2.checkpoint import CheckpointError
from rt2.inference.policy import Policy
from rt2.inference.server import PolicyServer, ServeError, check_exposure

MIN_TOKEN = 16  # characters


def main(argv: Sequence[str] | None = None) -> None:
    """Loads a checkpoint, compiles its programs and serves it until SIGTERM or Ctrl-C."""
    args = _parser().parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        token = read_token(args.token_file) if args.token_file else None
        check_exposure(args.host, token)
        print(f"Loading {args.checkpoint} ...", flush=True)
        policy = Policy.load(args.checkpoint)
        print("Compiling ...", flush=True)
        policy.warmup()
        run(PolicyServer(policy, token), args.host, args.port)
    except (ServeError, CheckpointError) as error:
        sys.exit(f"error: {error}")


def run(server: PolicyServer, host: str, port: int) -> None:
    """Serves until SIGTERM or Ctrl-C; prints a line with the address once it listens."""
    asyncio.run(_until_signalled(server, host, port))


def read_token(path: pathlib.Path) -> str:
    """The key in a file, without the white space around it."""
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"--token-file={path}: unreadable ({error})") from error
    if len(token) < MIN_TOKEN or not token.isprintable() or " " in token:
        raise ServeError(
            f"--token-file={path}: expected one word of at least {MIN_TOKEN} characters, such as "
            "`openssl rand -hex 32` prints"
        )
    return token


async def _until_signalled(server: PolicyServer, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    shown = f"[{host}]" if ":" in host else host
    await server.run(
        host, port, stop, lambda port: print(f"listening on ws://{shown}:{port}", flush=True)
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rt2.inference.serve", description="Serves a checkpoint to robots."
    )
    add = parser.add_argument
    add("--checkpoint", type=pathlib.Path, required=True, help="a workdir, or one step's folder")
    add("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    add("--port", type=int, default=8000, help="0 picks a free one (default 8000)")
    add("--token-file", type=pathlib.Path, help="file with the key that clients must send")
    return parser


if __name__ == "__main__":
    main()

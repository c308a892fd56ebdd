"""``python -m agorafs.sandbox``: the same as ``agorafs sandbox``."""

from __future__ import annotations

import argparse
import sys

from agorafs.sandbox import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="agorafs sandbox", description=run.DESCRIPTION)
    run.add_arguments(parser)
    sys.exit(run.main(parser.parse_args()))

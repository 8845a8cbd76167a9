"""`python -m stream_moe`: the command line."""

from __future__ import annotations

from stream_moe.cli import main

if __name__ == "__main__":
    main()

"""A run in a process of its own: memory goes back to the machine with it, and it ends when its parent does."""

from __future__ import annotations

import os
import sys

from stream_moe.runtime.parent import end_with_parent


def main() -> None:
    """Run `stream-moe` with the arguments after the first, which is the end of a pipe that the parent holds open.

    The result goes to stdout, and nothing else does: what a library prints there goes to stderr.
    """
    end_with_parent(int(sys.argv[1]))
    result = os.dup(1)
    os.dup2(2, 1)
    sys.argv[1:] = [*sys.argv[2:], "--quiet", "--json", f"/dev/fd/{result}"]
    from stream_moe.cli import main as run

    run()


if __name__ == "__main__":
    main()

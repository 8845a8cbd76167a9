"""`python -m stream_moe`: the command line."""

from __future__ import annotations

from stream_moe.runtime.origin import leave_working_directory

leave_working_directory()  # before anything is imported that a file here could stand in for

from stream_moe.cli import main  # noqa: E402

if __name__ == "__main__":
    main()

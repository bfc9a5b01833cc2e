"""Runs on the developer's machine: `python -m bench [CASE ...]` prints one line per comparison.

Medians of five runs, ours and theirs in turn. The exit code is 1 where a ratio is missed.
"""

from __future__ import annotations

import os
import sys

from .cases import CASES


def main() -> int:
    """Run the named cases, or all."""
    if os.geteuid() != 0:
        print("the benchmarks make namespaces and start daemons: run them as root", file=sys.stderr)
        return 1
    names = sys.argv[1:] or list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"no such case: {unknown[0]}; there are {', '.join(CASES)}", file=sys.stderr)
        return 1
    missed = 0
    for name in names:
        for row in CASES[name]():
            print(row, flush=True)
            missed += row.ratio > row.must
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

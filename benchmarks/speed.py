"""How fast: kernels, fits, forecasts, memory, scaling, streams, first use; one table each.

    python benchmarks/speed.py                  # everything, about an hour
    python benchmarks/speed.py kernels memory   # some of it
    python benchmarks/speed.py --quick          # smaller and shorter, to see that it runs

Writes benchmarks/results/speed_<part>.md with date, versions and machine. Needs the extra
`benchmarks`. Every part runs in a process of its own.
"""

import argparse
import datetime
import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

PARTS = ("kernels", "fits", "sizes", "latency", "memory", "scaling", "stream", "first_use")
LIBRARIES = (
    "mtds_sklearn", "numpy", "scipy", "scikit-learn", "numba", "jax", "torch", "dynamax",
    "statsmodels", "numpyro",
)  # fmt: skip
WITH_ONE_THREAD = ("kernels", "latency", "scaling", "fits", "sizes")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
RESULTS = Path(__file__).parent / "results"


def heading(section: str, command: str) -> str:
    """The section with where and how it was measured below its title."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    title, _, rest = section.partition("\n")
    where = f"{datetime.date.today()}; {processor()}, {os.cpu_count()} cores, load at the start "
    where += f"{os.getloadavg()[0]:.1f}; Python {platform.python_version()}, {', '.join(found)}."
    return f"{title}\n\n{where}\n\n    {command}\n{rest}"


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def run_part(part: str, quick: bool, n_sequences: int) -> None:
    """Measure one part in this process and write its table."""
    command = f"python benchmarks/speed.py {part}{' --quick' if quick else ''}"
    sizes = {}
    if part == "stream":
        sizes["n_sequences"] = n_sequences
        command += f" --sequences {n_sequences}"
    head = heading("{title}\n{rest}", command)
    section = importlib.import_module(f"speed_parts.{part}").report(quick, **sizes)
    title, _, rest = section.partition("\n")
    text = head.replace("{title}", title).replace("{rest}", rest)
    (RESULTS / f"speed_{part}{'_quick' if quick else ''}.md").write_text(text, "utf-8")
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sequences", type=int, default=100_000, help="of the stream")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {sorted(unknown)}; there are {', '.join(PARTS)}")
    if args.here:
        run_part(args.parts[0], args.quick, args.sequences)
        return
    failed = []
    for part in args.parts or PARTS:
        options = ["--sequences", str(args.sequences)] + ["--quick"] * args.quick
        command = [sys.executable, __file__, "--here", part, *options]
        environment = os.environ | (ONE_THREAD if part in WITH_ONE_THREAD else {})
        if subprocess.run(command, check=False, env=environment).returncode:
            failed.append(part)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()

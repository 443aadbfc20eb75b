"""Peak memory of an export with --records=0, by the number of records that the files are compared on.

  python -m benchmarks.experiments.export_memory
      1,000 and 20,000 records of 10 classes, then of 1,000; 64 px, an untrained network
  python -m benchmarks.experiments.export_memory --classes=1000 --records=1000,50000 --quantize=float16

Each export is a process of its own. Prints a table of the peaks, and exits with code 1 if the peaks of one number of
classes differ by more than 100 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sqznet.core import console, files

SIZE = 64  # pixels
DRAWN = 1000  # photographs of the test split; larger sets hold copies of its shards
MOST = 100_000_000  # bytes that two peaks may differ by


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default="10,1000")
    parser.add_argument("--records", default="1000,20000", help=f"multiples of {DRAWN}")
    parser.add_argument("--format", default="all")
    parser.add_argument("--quantize", default="none")
    args = parser.parse_args()
    rows, differ = [], False
    for classes in map(int, args.classes.split(",")):
        measured = []
        for records in map(int, args.records.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                prepare(Path(folder), classes, records)
                flags = [f"--format={args.format}", f"--quantize={args.quantize}"]
                peak, seconds = peak_of(Path(folder), flags)
            measured.append(peak)
            rows.append([f"{classes:,}", f"{records:,}", f"{peak / 1000**2:,.0f}", f"{seconds:.0f}"])
            console.say(f"{classes:,} classes, {records:,} records: {peak / 1000**2:,.0f} MB, {seconds:.0f} s")
        differ |= max(measured) - min(measured) > MOST
    console.table(["classes", "records", "peak, MB", "seconds"], rows, title=f"--records=0 {' '.join(flags)}")
    return int(differ)


def prepare(folder: Path, classes: int, records: int) -> None:
    """Writes `folder`/data, with `records` in test, and `folder`/model.keras, in a process that is gone afterwards."""
    command = [sys.executable, __file__, "prepare", str(folder), str(classes), str(records)]
    subprocess.run(command, check=True, capture_output=True)


def write(folder: Path, classes: int, records: int) -> None:
    from PIL import Image

    from sqznet.core import startup
    from sqznet.images.preprocessing import Preprocessing
    from sqznet.network import architecture, keras_file, model

    random = np.random.default_rng(0)
    for number in range(DRAWN):
        label = number % classes
        for split, each in (("test", number), ("train", number)):
            path = folder / "photographs" / split / f"class{label:04d}" / f"{each}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            small = random.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(small).resize((SIZE, SIZE)).save(path)
    command = [sys.executable, "-m", "sqznet.data", f"--source=folder:{folder}/photographs", f"--out={folder}/data"]
    subprocess.run(command, check=True)
    repeat_test(folder / "data", records // DRAWN)
    startup.load_tensorflow()
    network = model.build(
        architecture.Network(classes, "v1.1", "relu", image_size=SIZE), channel_means=(120.0, 110.0, 100.0)
    )
    names = tuple(f"class{label:04d}" for label in range(classes))
    keras_file.save(network, keras_file.Card(names, Preprocessing(SIZE, SIZE), None), folder / "model.keras")


def repeat_test(data: Path, times: int) -> None:
    """Makes a set's test split as many times as large, of copies of its shards."""
    manifest = json.loads((data / "manifest.json").read_text())
    for shard in [each for each in manifest["shards"] if each["split"] == "test"]:
        for copy in range(1, times):
            name = f"copy{copy}-{shard['file']}"
            shutil.copy(data / shard["file"], data / name)
            manifest["shards"].append({**shard, "file": name})
    counts = manifest["splits"]["test"]
    counts["per_class"] = [times * count for count in counts["per_class"]]
    counts["records"] *= times
    files.write_json(data / "manifest.json", manifest)


def peak_of(folder: Path, flags: list[str]) -> tuple[int, float]:
    """Peak memory of an export in bytes, and its seconds."""
    gate = ["--records=0", "--max_drop=100", "--budget=100MiB", f"--out={folder}/bundle", f"--data={folder}/data"]
    command = [sys.executable, "-m", "sqznet.export", f"--model={folder}/model.keras", *gate, *flags]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)  # of this process only, not of those that measure latency
    if status:
        raise SystemExit(f"the export failed:\n{said}")
    return usage.ru_maxrss * 1024, time.monotonic() - started


if __name__ == "__main__":
    if sys.argv[1:2] == ["prepare"]:
        write(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        sys.exit(main())

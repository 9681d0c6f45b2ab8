"""Time and memory of exact Recall@K on Stanford Online Products' size.

python tests/benchmarks/bench_recall.py [images] [channels]
"""

import resource
import sys
import time

import torch

from kdsweep.metrics.recall import recall_at

IMAGES, CLASSES = 60_502, 11_316


def main() -> None:
    images, channels = (int(value) for value in [*sys.argv[1:], IMAGES, 128][:2])
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (images,), generator=generator)
    centres = torch.randn(CLASSES, channels, generator=generator)
    embeddings = centres[labels] + 1.2 * torch.randn(images, channels, generator=generator)
    before_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    began, began_cpu = time.perf_counter(), time.process_time()
    found = recall_at(embeddings, labels, ks=(1, 10, 100, 1000))
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{images} x {channels}, {torch.get_num_threads()} threads: {seconds:.1f} s, "
        f"of the CPU {cpu:.1f} s"
    )
    print(f"peak of the process {peak_gb:.2f} GB, {before_gb:.2f} GB of it before")
    print({k: round(value, 4) for k, value in found.items()})


if __name__ == "__main__":
    main()

"""Peak memory and time of partsynth's SupCon loss against a plain transcription of the reference formula.

    python benchmarks/supcon_loss.py [--rows 4096] [--dimensions 128] [--repeats 7]

Each figure comes from fresh processes: forward + backward in float32; peak resident memory (getrusage) less what was
resident after the imports and the inputs. Exit code 1 where partsynth needs more than half the memory or more time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time


def reference(features, labels, temperature: float = 0.1):
    """SupContrast's formula, written plainly: every mask and every product is an (M, M) matrix."""
    import torch

    same = (labels[:, None] == labels[None, :]).float()
    logits = features @ features.T / temperature
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    others = 1 - torch.eye(len(labels))
    positives = same * others
    log_probability = logits - torch.log((torch.exp(logits) * others).sum(1, keepdim=True))
    return -((positives * log_probability).sum(1) / positives.sum(1)).mean()


def measure(name: str, rows: int, dimensions: int, repeats: int) -> None:
    import torch

    from partsynth.core.contrastive.losses import supcon_loss

    loss_of = {"reference": reference, "partsynth": supcon_loss}[name]
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(rows, dimensions, generator=generator), dim=1)
    labels = torch.randint(0, max(2, rows // 64), (rows,), generator=generator)
    # the thread pool and the matrix library's buffers belong to neither loss
    warm = features[:64].clone().requires_grad_()
    loss_of(warm, torch.arange(64) % 4).backward()
    features.requires_grad_()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(repeats):
        features.grad = None
        start = time.perf_counter()
        loss = loss_of(features, labels)
        loss.backward()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    told = {"loss": loss.item(), "gradient": features.grad.norm().item(), "mib": peak / 1024, "s": min(times)}
    print(json.dumps(told))


def compare(rows: int, dimensions: int, repeats: int) -> dict[str, dict[str, float]]:
    """Runs both in fresh processes; {"reference" | "partsynth": {"loss", "gradient", "mib", "s"}}."""
    result = {}
    for name in ("reference", "partsynth"):
        command = [sys.executable, __file__, "--measure", name, "--rows", str(rows), "--dimensions", str(dimensions)]
        done = subprocess.run([*command, "--repeats", str(repeats)], check=True, capture_output=True, text=True)
        result[name] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--measure", choices=["reference", "partsynth"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.rows, options.dimensions, options.repeats)
        return 0
    result = compare(options.rows, options.dimensions, options.repeats)
    print(f"N = {options.rows}, D = {options.dimensions}, float32, forward + backward, best of {options.repeats}\n")
    print("| loss | value | peak memory (MiB) | time (ms) |\n|---|---|---|---|")
    for name, r in result.items():
        print(f"| {name} | {r['loss']:.5f} | {r['mib']:.1f} | {1000 * r['s']:.0f} |")
    ours, theirs = result["partsynth"], result["reference"]
    memory, speed = ours["mib"] / theirs["mib"], ours["s"] / theirs["s"]
    print(f"| ratio | | {memory:.3f} | {speed:.2f} |")
    return 0 if memory <= 0.5 and speed <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())

"""Measures how well scores tell photographs of a network's classes (own) from those of other classes (foreign).

  python -m benchmarks.experiments.none_of_these --model=runs/NAME --data=data/seven --foreign=photos/three

The seed splits val into two halves. On the first half, the temperature is fitted, and each score gets the threshold
that 95 % of the own photographs reach. The table shows the second half and all foreign photographs: the own photographs
that are answered, the foreign photographs that get the answer "not sure" at this threshold, the AUROC, and the foreign
photographs that get "not sure" at the threshold that 95 % of the second half reach. Intervals are 95 % bootstrap
intervals with a fixed seed.

A second table shows `export --min_precision`: the threshold of the largest probability that the first half gives, and
the answers on the second half and the foreign photographs. --picture draws them for all thresholds.

Outputs of the network that are no class of --data, such as a class "other", count as "not sure": a photograph is
answered by the largest score of an own class.

Scores: the largest probability; the energy (Liu et al. 2020); the largest logit (Hendrycks et al. 2022); the negative
entropy; the cosine to the 10th nearest of 3,000 train photographs, in the pooled features of fire9 (Sun et al. 2022);
and ViM (Wang et al. 2022), the energy minus the scaled part of these features outside their 256 principal directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sqznet.core import cli, console, detection, metrics, probabilities, startup, threshold
from sqznet.data import manifest as manifests
from sqznet.predict import inference

NEIGHBOUR, TRAIN_RECORDS = 10, 3000
PRECISIONS = (0.98, 0.99, 0.995)
Arrays = tuple[np.ndarray, np.ndarray]  # logits (n, classes) and features (n, 512)


def main() -> int:
    parser = cli.parser("benchmarks.experiments.none_of_these", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="run folder or .keras file")
    parser.add_argument("--data", type=Path, required=True, help="folder of shards with the own classes")
    parser.add_argument("--foreign", type=Path, required=True, help="folder of photographs of other classes")
    parser.add_argument("--picture", type=Path, help="PNG of the answered shares at each threshold")
    parser.add_argument("--seed", type=int, default=0, help="of the two halves")
    args = parser.parse_args()
    startup.load_tensorflow()
    import keras
    import tensorflow as tf

    from sqznet.data import pipeline
    from sqznet.evaluate import none_of_these

    predictor = inference.load(args.model)
    model, card = inference.load_keras(args.model)
    pooled = keras.layers.GlobalAveragePooling2D()(model.get_layer("fire9").output)
    network = tf.function(keras.Model(model.input, [model.output, pooled]), reduce_retracing=True)
    manifest = manifests.load(args.data)
    outputs = predictor.outputs_of(manifest.classes, args.data)

    def run(batches: Iterator[np.ndarray]) -> Arrays:
        found = [[each.numpy() for each in network(images)] for images in batches]
        logits, features = (np.concatenate(each) for each in zip(*found, strict=True))
        return logits.astype(np.float64), features.astype(np.float64)

    labels: list[np.ndarray] = []

    def own(split: str, records: int | None) -> Iterator[np.ndarray]:
        labels.clear()
        for images, some in pipeline.examples(manifest, split, card.preprocessing, records, 64):
            labels.append(outputs[some])
            yield images

    train = run(none_of_these.with_progress(own("train", TRAIN_RECORDS), "train"))
    val = run(none_of_these.with_progress(own("val", None), "val"))
    true = np.concatenate(labels)
    foreign = run(none_of_these.with_progress(none_of_these.foreign_images(predictor, args.foreign), "foreign"))
    order = np.random.default_rng(args.seed).permutation(len(true))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    temperature = probabilities.fit_temperature(val[0][first], true[first])
    top1 = float((val[0][second].argmax(axis=1) == true[second]).mean())
    rows = []
    for name, score in scores(temperature, outputs, train).items():
        fitted, held_out, others = (score(*each) for each in (_at(val, first), _at(val, second), foreign))
        rows.append([name, *_figures(fitted, held_out, others)])
    columns = ["score", "own answered", "foreign not sure", "AUROC", "foreign not sure at 95 % of own"]
    sizes = f"{len(first):,} for the fit, {len(second):,} own and {len(foreign[0]):,} foreign photographs for the table"
    console.table(columns, rows, title=f"temperature {temperature:.3f}, top-1 {console.percent(top1)}; {sizes}")
    shares = [
        probabilities.softmax(each / temperature)[:, outputs] for each in (val[0][first], val[0][second], foreign[0])
    ]
    hits = [outputs[each.argmax(axis=1)] == true[part] for each, part in zip(shares, (first, second), strict=False)]
    _precisions(*(each.max(axis=1).astype(np.float64) for each in shares), *hits, args.picture)
    return 0


def _precisions(
    fitted: np.ndarray,
    own: np.ndarray,
    foreign: np.ndarray,
    hits: np.ndarray,
    own_hits: np.ndarray,
    picture: Path | None,
) -> None:
    """Prints what `export --min_precision` gives.

    Args:
        fitted: the largest probabilities of the first half.
        own: those of the second half.
        foreign: those of the foreign photographs.
        hits: whether the top-1 class of each record of the first half is correct.
        own_hits: the same for the second half.
    """
    from sqznet.core import plots
    from sqznet.evaluate import none_of_these
    from sqznet.evaluate.none_of_these import Scored

    table, rows, chosen = threshold.table(fitted, hits), [], 0.0
    for precision in PRECISIONS:
        row = threshold.lowest(table, precision)
        if row is None:
            rows.append([f"{precision:g}", "none", "", "", ""])
            continue
        chosen = row["threshold"]
        answered, wrongly = own >= chosen, foreign >= chosen
        cells = [(answered.sum(), len(own)), (own_hits[answered].sum(), answered.sum()), (wrongly.sum(), len(foreign))]
        rows.append([f"{precision:g}", f"{chosen:g}", *(_share(int(count), int(n)) for count, n in cells)])
    columns = ["--min_precision", "threshold", "own answered", "right, of the answered", "foreign answered"]
    console.table(columns, rows, title="largest probability")
    if picture:
        scored = [Scored({none_of_these.PROBABILITY: each}, np.zeros(len(each), int)) for each in (own, foreign)]
        title = f"{len(own):,} own and {len(foreign):,} foreign photographs"
        plots.answered(none_of_these.by_threshold(*scored, own_hits), chosen, picture, title)


def _share(count: int, n: int) -> str:
    low, high = metrics.wilson_interval(count, n)
    return f"{100 * count / n:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _at(arrays: Arrays, places: np.ndarray) -> Arrays:
    return arrays[0][places], arrays[1][places]


def scores(
    temperature: float, own: np.ndarray, train: Arrays
) -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Returns functions from logits and features to a score, (n,), by name.

    Args:
        own: the outputs of the own classes.
        train: the logits and features of train photographs.
    """
    train_directions = _unit(train[1])
    centre = train[1].mean(axis=0)
    outside = np.linalg.eigh(np.cov((train[1] - centre).T))[1][:, : train[1].shape[1] // 2]  # smallest variances

    def shares(logits: np.ndarray) -> np.ndarray:
        return probabilities.softmax(logits / temperature)[:, own].astype(np.float64)

    def entropy(logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        values = np.maximum(shares(logits), 1e-12)
        return (values * np.log(values)).sum(axis=1)

    def nearest(logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return np.sort(_unit(features) @ train_directions.T, axis=1)[:, -NEIGHBOUR]

    def largest(logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        return logits[:, own].max(axis=1)

    def residual(features: np.ndarray) -> np.ndarray:
        return np.linalg.norm((features - centre) @ outside, axis=1)

    scale = largest(*train).mean() / residual(train[1]).mean()
    return {
        "largest probability": lambda logits, features: shares(logits).max(axis=1),
        "energy": lambda logits, features: detection.energy(logits[:, own] / temperature),
        "largest logit": largest,
        "entropy": entropy,
        "nearest train photographs": nearest,
        "ViM": lambda logits, features: detection.energy(logits[:, own]) - scale * residual(features),
    }


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _figures(fitted: np.ndarray, own: np.ndarray, foreign: np.ndarray) -> list[str]:
    """Returns the cells of a score's line."""
    limit = detection.threshold_at(fitted, detection.TPR)

    def not_sure(own: np.ndarray, foreign: np.ndarray) -> float:
        return float((foreign < limit).mean())

    def answered(own: np.ndarray, foreign: np.ndarray) -> float:
        return float((own >= limit).mean())

    def not_sure_at_tpr(own: np.ndarray, foreign: np.ndarray) -> float:
        return 1 - detection.fpr_at_tpr(own, foreign)

    measures = (answered, not_sure, detection.auroc, not_sure_at_tpr)
    found = [detection.measured(measure, own, foreign) for measure in measures]
    return [
        f"{100 * each.value:.1f} % ({100 * each.interval_95[0]:.1f} to {100 * each.interval_95[1]:.1f})"
        for each in found
    ]


if __name__ == "__main__":
    cli.run(main)

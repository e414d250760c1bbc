"""The paper's formulas in plain NumPy float64 loops, written from the paper and not from the code under test.

Positions are (row, column), counted from 0; latents are (B, C, H, W), grids (h, w).
"""

import numpy as np


def subsample(side: int, layer_side: int) -> list[int]:
    """Equation 1 along one axis, as the paper counts it (from 1), brought to counting from 0."""
    ratio = side // layer_side
    return [ratio * i - -(-ratio // 2) + 1 - 1 for i in range(1, side // ratio + 1)]


def layer_positions(latent: tuple[int, int], grid: tuple[int, int]) -> list[tuple[int, int]]:
    return [(y, x) for y in subsample(latent[0], grid[0]) for x in subsample(latent[1], grid[1])]


def nearest(query: np.ndarray, table: np.ndarray) -> int:
    return int(((table - query) ** 2).sum(1).argmin())


def quantize(z: np.ndarray, table: np.ndarray, grids: list[tuple[int, int]], *, residual: bool = False) -> dict:
    """Equations 2 and 3 position by position: ids, z_l, estimates after each layer, and the decoder's input."""
    batch, width, height, columns = z.shape
    ids, inputs, estimates = [], [], []
    chosen = {}
    for grid in grids:
        where = layer_positions((height, columns), grid)
        layer_ids, layer_inputs, layer_estimates = (
            np.zeros((batch, len(where), *tail)) for tail in ((), (width,), (width,))
        )
        for b in range(batch):
            for n, (y, x) in enumerate(where):
                past = chosen.setdefault((b, y, x), [])
                vector = z[b, :, y, x]
                if residual:
                    current = vector - sum(past, np.zeros(width))
                else:
                    current = vector + sum((vector - e for e in past), np.zeros(width))
                k = nearest(current, table)
                past.append(table[k])
                layer_ids[b, n] = k
                layer_inputs[b, n] = current
                layer_estimates[b, n] = np.sum(past, 0) if residual else np.mean(past, 0)
        ids.append(layer_ids.astype(int))
        inputs.append(layer_inputs)
        estimates.append(layer_estimates)
    latents = np.zeros_like(z)
    for (b, y, x), past in chosen.items():
        latents[b, :, y, x] = np.sum(past, 0) if residual else np.mean(past, 0)
    return {"ids": ids, "inputs": inputs, "estimates": estimates, "latents": latents, "history": chosen}


def commitment(z: np.ndarray, table: np.ndarray, grids: list[tuple[int, int]]) -> float:
    """Facts 8.7 before its division by R^2: sum over layers of the mean over covered positions."""
    total = 0.0
    for depth in range(1, len(grids) + 1):
        history = quantize(z, table, grids[:depth])["history"]
        errors = [((z[b, :, y, x] - np.mean(past, 0)) ** 2).sum() for (b, y, x), past in history.items()]
        total += float(np.mean(errors))
    return total


def word_cross_entropy(query: np.ndarray, table: np.ndarray, target: int, temperature: float) -> float:
    """Equation 7's summand with the sharpness of facts 8.2."""
    logits = -((query - table) ** 2).sum(1) / temperature
    top = logits.max()
    return float(top + np.log(np.exp(logits - top).sum()) - logits[target])


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def lecam(real: np.ndarray, fake: np.ndarray, average_real: float, average_fake: float) -> float:
    """The regulariser as MAGVIT writes it."""
    return max(real.mean() - average_fake, 0) ** 2 + max(average_real - fake.mean(), 0) ** 2


def entropy_loss(latents: np.ndarray, rows: np.ndarray, temperature: float) -> float:
    """MaskGIT's, row by row."""
    probabilities = []
    for z in latents:
        scores = -((rows - z) ** 2).sum(1) / temperature
        scores = np.exp(scores - scores.max())
        probabilities.append(scores / scores.sum())

    def entropy(p: np.ndarray) -> float:
        kept = p[p > 0]
        return float(-(kept * np.log(kept)).sum())

    mean = np.mean(probabilities, 0)
    return float(np.mean([entropy(p) for p in probabilities])) + float((mean * np.log(mean + 1e-5)).sum())

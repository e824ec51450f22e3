"""Finding the same photograph twice: a perceptual hash proposes pairs, fine detail confirms them.

Photographs from a fixed rig differ in detail alone: the hash's low frequencies call different spots of one machine the
same, so that a pair must also correlate in its high frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from partsynth.core.images.framing import REDUCING_GAP

THUMBNAIL = 64  # pixels a side
HASH_BITS = 256  # 16 x 16 frequencies
SOME = 256  # thumbnails hashed at a time: 4 MB
MOST = 2**22  # hashes that share a piece, of which each pair is compared: some 200 MB
SAME_DETAIL = 0.96  # correlation; copies at JPEG quality 80 and 0.8 of the size reach 0.978, other spots 0.946 at most


def thumbnail(image: Image.Image) -> np.ndarray:
    """Luminance of an image squeezed to (64, 64) uint8: what the functions below compare."""
    grey = image.convert("L")
    return np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP))


def perceptual_hash(thumb: np.ndarray) -> np.ndarray:
    """A thumbnail's low frequencies, each above or below their median (Zauner 2010, pHash): (4,) uint64.

    Re-encoding, resizing and a slight change of exposure flip few bits; another motif flips about half of them.
    """
    return _hashes(thumb[None])[0]


def detail_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation in [-1, 1] of two thumbnails' fine detail, local contrast evened out; 1 where neither has any."""
    return float(_correlations(_detail(a)[None], _detail(b)[None])[0])


def _detail(thumb: np.ndarray) -> np.ndarray:
    grey = thumb.astype(np.float32)
    high = grey - gaussian_filter(grey, 1)
    high /= np.sqrt(gaussian_filter(high * high, 2) + 4)  # 2 grey levels: flat areas' noise does not count
    return high - high.mean()


def _correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each pair of rows of two stacks (P, 64, 64): (P,)."""
    norm = np.sqrt((x * x).sum(axis=(1, 2)) * (y * y).sum(axis=(1, 2)))
    return np.where(norm > 0, (x * y).sum(axis=(1, 2)) / np.maximum(norm, 1e-12), 1.0)


def near_pairs(thumbs: np.ndarray, parts: np.ndarray, limit: int, block: int = 128) -> list[tuple[int, int, int]]:
    """Pairs (i, j, bits), i < j, whose ``parts`` (N,) differ and whose ``thumbs`` (N, 64, 64) show one photograph.

    That is: hashes at most ``limit`` of HASH_BITS apart, and detail that correlates beyond SAME_DETAIL. No
    pair is missed. Where the hashes of many images are alike each is compared with each, ``block`` at a time.
    """
    return _pairs(thumbs, thumbs, _hashes(thumbs), parts, limit, block)


def turned_pairs(thumbs: np.ndarray, parts: np.ndarray, limit: int, block: int = 128) -> list[tuple[int, int, int]]:
    """As ``near_pairs``, of images that show the same once one of them is mirrored, or turned by quarters."""
    found: dict[tuple[int, int], int] = {}
    hashes = _hashes(thumbs)
    mirrored = thumbs[:, :, ::-1]
    turns = [np.rot90(thumbs, k, axes=(1, 2)) for k in (1, 2, 3)]
    for other in [*turns, mirrored, *(np.rot90(mirrored, k, axes=(1, 2)) for k in (1, 2, 3))]:
        for i, j, bits in _pairs(thumbs, other, hashes, parts, limit, block):
            found[i, j] = min(bits, found.get((i, j), bits))
    return [(i, j, bits) for (i, j), bits in sorted(found.items())]


def _hashes(thumbs: np.ndarray) -> np.ndarray:
    """Perceptual hashes (N, 4) uint64 of thumbnails (N, 64, 64)."""
    found = [np.zeros((0, HASH_BITS // 8), np.uint8)]
    for start in range(0, len(thumbs), SOME):
        some = thumbs[start : start + SOME].astype(np.float32)
        low = dctn(some, type=2, norm="ortho", axes=(1, 2))[:, 1:17, 1:17]  # without constant row and column
        low = low.reshape(len(some), HASH_BITS)
        found.append(np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1))
    return np.concatenate(found).view(np.uint64)


def _pairs(
    thumbs: np.ndarray, others: np.ndarray, hashes: np.ndarray, parts: np.ndarray, limit: int, block: int
) -> list[tuple[int, int, int]]:
    """Pairs of one of ``thumbs``, whose hashes are given, and a later one of ``others``."""
    theirs = hashes if others is thumbs else _hashes(others)
    details: dict[tuple[int, bool], np.ndarray] = {}

    def detail(index: int, other: bool) -> np.ndarray:
        key = (index, other and others is not thumbs)
        if key not in details:
            details[key] = _detail(others[index] if other else thumbs[index])
        return details[key]

    pairs = []
    close = _close_by_pieces(hashes, theirs, parts, limit)
    for first, second in _close(hashes, theirs, parts, limit, block) if close is None else [close]:
        for some in range(0, len(first), 256):
            i, j = first[some : some + 256], second[some : some + 256]
            same = _correlations(
                np.stack([detail(int(n), False) for n in i]), np.stack([detail(int(n), True) for n in j])
            )
            bits = _apart(hashes[i], theirs[j])
            pairs += [
                (int(a), int(b), int(apart))
                for a, b, apart, alike in zip(i, j, bits, same, strict=True)
                if alike > SAME_DETAIL
            ]
    return pairs


Indices = tuple[np.ndarray, np.ndarray]  # of the first and the second images of some pairs, in order


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bits that hashes (..., 4) are apart, pair by pair."""
    return np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int32)


def _close(hashes: np.ndarray, theirs: np.ndarray, parts: np.ndarray, limit: int, block: int) -> Iterator[Indices]:
    """Pairs i < j of other parts whose hashes are at most ``limit`` bits apart, ``block`` rows at a time."""
    for start in range(0, len(hashes), block):
        rows = hashes[start : start + block]
        bits = np.zeros((len(rows), len(hashes) - start), np.int32)
        for word in range(hashes.shape[1]):
            bits += np.bitwise_count(rows[:, None, word] ^ theirs[None, start:, word])
        close = (bits <= limit) & (parts[start : start + block, None] != parts[None, start:])
        first, second = np.nonzero(np.triu(close, 1))
        yield first + start, second + start


def _close_by_pieces(hashes: np.ndarray, theirs: np.ndarray, parts: np.ndarray, limit: int) -> Indices | None:
    """The same pairs by far fewer comparisons; None where too many hashes are alike.

    Hashes that differ in at most ``limit`` bits are equal in one of ``limit + 1`` pieces, whichever way they are cut:
    those alone are compared that share a piece (multi-index hashing, Norouzi et al. 2012, arXiv 1307.2982).
    """
    count = len(hashes)
    pieces = max(limit + 1, HASH_BITS // 64)  # a piece is a number of 64 bits at most
    if pieces > HASH_BITS:
        return None
    found = [np.zeros(0, np.int64)]
    for ours, others in zip(_pieces(hashes, pieces), _pieces(theirs, pieces), strict=True):
        order = np.argsort(others, kind="stable")
        left, right = (np.searchsorted(others[order], ours, side) for side in ("left", "right"))
        alike = right - left  # (N,) of the others that have each one's piece
        total = int(alike.sum())
        if total > max(count, MOST):
            return None
        i = np.repeat(np.arange(count), alike)
        j = order[np.arange(total) - np.repeat(np.cumsum(alike) - alike - left, alike)]
        new = (i < j) & (parts[i] != parts[j])
        i, j = i[new], j[new]
        found.append((i * count + j)[_apart(hashes[i], theirs[j]) <= limit])
    return np.divmod(np.unique(np.concatenate(found)), max(count, 1))


def _pieces(hashes: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Each hash's bits cut into ``count`` pieces: (N,) uint64 each."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)  # (N, HASH_BITS)
    for piece in np.array_split(bits, count, axis=1):
        yield piece.astype(np.uint64) @ (np.uint64(1) << np.arange(piece.shape[1], dtype=np.uint64))


def components(pairs: Sequence[tuple[int, int]], count: int) -> np.ndarray:
    """Of ``count`` images the number of what each shows, (count,): images that pairs link have the same."""
    if not pairs:
        return np.arange(count)
    i, j = np.array(pairs).T
    graph = coo_array((np.ones(len(pairs), bool), (i, j)), shape=(count, count))
    return connected_components(graph, directed=False)[1]

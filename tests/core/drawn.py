"""Drawn problems in which options meet: any two of them together, by turns."""

from itertools import combinations

import numpy as np

PRIMES = (1, 2, 3, 5, 7, 11, 13)
LARGE = (83, 127, 257, 599)
OPTIONS = (
    "scale", "softcap", "causal", "align", "window", "bool_mask", "float_mask", "sinks", "alibi",
    "segments", "cu_seqlens", "kv_lengths", "keep", "dlogsumexp", "groups",
)  # fmt: skip

# What says the same in two ways, and so is never given at once.
EITHER = ({"causal", "align"}, {"bool_mask", "float_mask"})


def pairs():
    """Return every two options that can meet."""
    return [set(pair) for pair in combinations(OPTIONS, 2) if set(pair) not in EITHER]


def chosen(rng):
    """Draw which options meet: each in one case of three, in some cases nearly all."""
    share = rng.choice([0.2, 0.35, 0.7])
    names = {name for name in OPTIONS if rng.random() < share}
    for either in EITHER:
        if either <= names:
            names.discard(str(rng.choice(sorted(either))))
    return names


def drawn(seed, sizes=PRIMES):
    """Return (names, arrays, options): query, key, value, dout, dlogsumexp; and the options."""
    rng = np.random.default_rng(seed)
    names = chosen(rng)
    N, shared, H, H_v = (int(rng.choice(PRIMES[:n])) for n in (3, 3, 5, 5))
    heads = shared * int(rng.choice([2, 3])) if "groups" in names else shared
    T_dec, T_enc = (int(rng.choice(sizes)) for _ in range(2))
    one_array = "segments" in names and rng.random() < 0.3
    shared_lengths = "cu_seqlens" in names and rng.random() < 0.5
    if one_array or shared_lengths:
        T_enc = T_dec
    arrays = {
        "query": rng.standard_normal((N, heads, T_dec, H)) * rng.choice([1, 1, 20]),
        "key": rng.standard_normal((N, shared, T_enc, H)),
        "value": rng.standard_normal((N, shared, T_enc, H_v)),
        "dout": rng.standard_normal((N, heads, T_dec, H_v)),
        "dlogsumexp": None,
    }
    options = {}
    if "dlogsumexp" in names:
        arrays["dlogsumexp"] = rng.standard_normal((N, heads, T_dec))
    if "scale" in names:
        options["scale"] = float(rng.uniform(-1, 1))
    if "softcap" in names:
        options["softcap"] = float(rng.uniform(0.5, 5))
    for name in ("causal", "align"):
        if name in names:
            options[name] = str(rng.choice(["upper_left", "lower_right"]))
    if "window" in names:
        sides = [int(x) for x in rng.choice([-1, 0, 1, 2, 5, 20], 2)]
        options["window"] = tuple(sides) if rng.random() < 0.7 else sides[0]
    shape = [size if rng.random() < 0.6 else 1 for size in (N, heads, T_dec, T_enc)]
    if "bool_mask" in names:
        options["mask"] = rng.random(shape) < 0.8
    if "float_mask" in names:
        options["mask"] = np.where(rng.random(shape) < 0.1, -np.inf, rng.standard_normal(shape))
    if "sinks" in names:
        options["sinks"] = rng.standard_normal(heads) * rng.choice([1, 50])
    if "alibi" in names:
        options["alibi"] = rng.standard_normal(heads)
    if "segments" in names:
        ids = [rng.integers(0, 3, (N, T) if rng.random() < 0.5 else (T,)) for T in (T_dec, T_enc)]
        if rng.random() < 0.6:
            ids = [np.sort(x, axis=-1) for x in ids]
        options["segments"] = ids[0] if one_array else tuple(ids)
    if "cu_seqlens" in names:
        count = int(rng.integers(1, 5))
        cuts = [np.sort(rng.integers(0, T + 1, count - 1)) for T in (T_dec, T_enc)]
        cu, cu_k = (np.array([0, *cut, T]) for cut, T in zip(cuts, (T_dec, T_enc), strict=True))
        options["cu_seqlens"] = cu
        if not shared_lengths:
            options["cu_seqlens_k"] = cu_k
        if "kv_lengths" in names:
            options["kv_lengths"] = rng.integers(0, np.diff(cu if shared_lengths else cu_k) + 1)
    elif "kv_lengths" in names:
        options["kv_lengths"] = rng.integers(0, T_enc + 1, N)
    if "keep" in names:
        options["keep"] = rng.random((N, heads, T_dec, T_enc)) < 0.8
        options["keep_prob"] = 0.8
    return names, arrays, options

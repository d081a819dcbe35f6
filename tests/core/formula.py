"""DESIGN's formulas with every option, on whole arrays, and what a query sees key by key.

Nothing of `attncli` is used: each rule stands here once more, as a sentence about one query t and
one key s.
"""

import numpy as np


def sequence_of(boundaries, step):
    """Which sequence a step belongs to."""
    return next(i for i, stop in enumerate(boundaries[1:]) if step < stop)


def places(T_dec, T_enc, item, options):
    """Return (seen, distance) of one item, query by query and key by key."""
    left, right = -1, -1
    if (window := options.get("window")) is not None:
        left, right = window if isinstance(window, tuple) else (window, window)
    causal = options.get("causal")
    lower_right = "lower_right" in (causal, options.get("align"))
    cu = options.get("cu_seqlens")
    cu_k = options.get("cu_seqlens_k", cu)
    lengths = options.get("kv_lengths")
    seen, distance = np.ones((T_dec, T_enc), bool), np.zeros((T_dec, T_enc))
    ids = options.get("segments")
    ids_dec, ids_enc = ids if isinstance(ids, tuple) else (ids, ids)
    for t in range(T_dec):
        if cu is None:
            first, own_first, count = 0, 0, T_dec
            there = T_enc if lengths is None else int(lengths[item])
        else:
            i = sequence_of(cu, t)
            first, own_first, count = int(cu_k[i]), int(cu[i]), int(cu[i + 1] - cu[i])
            there = int(cu_k[i + 1] - first if lengths is None else lengths[i])
        own = first + t - own_first + (there - count if lower_right else 0)
        for s in range(T_enc):
            sees = first <= s < first + there
            sees &= causal is None or s <= own
            sees &= left < 0 or s >= own - left
            sees &= right < 0 or s <= own + right
            if ids is not None:
                of_item = [x[item % len(x)] if x.ndim == 2 else x for x in (ids_dec, ids_enc)]
                sees &= bool(of_item[0][t] == of_item[1][s])
            seen[t, s], distance[t, s] = sees, abs(own - s)
    return seen, distance


def attention(query, key, value, dout, dlogsumexp=None, **options):
    """Return everything that forward and backward give, by name.

    query is (N, heads, T_dec, H); key and value may have fewer heads.
    """
    N, heads, T_dec, H = query.shape
    T_enc, shared = key.shape[-2], key.shape[1]
    key_all, value_all = (np.repeat(x, heads // shared, axis=1) for x in (key, value))
    both = [places(T_dec, T_enc, item, options) for item in range(N)]
    seen = np.stack([x[0] for x in both])[:, None] & np.ones((N, heads, T_dec, T_enc), bool)
    distance = np.stack([x[1] for x in both])[:, None]

    scale = options.get("scale", 1 / np.sqrt(H))
    scores, slope = scale * query @ key_all.swapaxes(-1, -2), 1.0
    if (softcap := options.get("softcap")) is not None:
        capped = np.tanh(scores / softcap)
        scores, slope = softcap * capped, 1 - capped**2
    mask, alibi, sinks = (options.get(name) for name in ("mask", "alibi", "sinks"))
    if mask is not None:
        seen = seen & (mask if mask.dtype == bool else mask != -np.inf)
        scores = scores if mask.dtype == bool else scores + np.where(seen, mask, 0)
    if alibi is not None:
        scores = scores - alibi[:, None, None] * distance
    scores = np.where(seen, scores, -np.inf)
    sink = np.full((heads, 1, 1), -np.inf) if sinks is None else np.asarray(sinks)[:, None, None]
    top = np.maximum(scores.max(axis=-1, keepdims=True), sink)
    top = np.where(top == -np.inf, 0, top)
    exps, of_sink = np.exp(scores - top), np.exp(sink - top)
    total = exps.sum(axis=-1, keepdims=True) + of_sink
    safe = np.where(total == 0, 1, total)
    weights, of_sink = exps / safe, of_sink / safe
    with np.errstate(divide="ignore"):
        logsumexp = (top + np.log(total))[..., 0]

    dropout = options["keep"] / options.get("keep_prob", 1.0) if "keep" in options else 1.0
    dweights = dout @ value_all.swapaxes(-1, -2) * dropout
    change = np.zeros((N, heads, T_dec, 1)) if dlogsumexp is None else dlogsumexp[..., None]
    change = change - (weights * dweights).sum(axis=-1, keepdims=True)
    dbias = weights * (dweights + change)
    dscores = scale * dbias * slope
    dkey, dvalue = dscores.swapaxes(-1, -2) @ query, (weights * dropout).swapaxes(-1, -2) @ dout
    result = {
        "out": weights * dropout @ value_all,
        "weights": weights,
        "logsumexp": logsumexp,
        "dquery": dscores @ key_all,
        "dkey": dkey.reshape(N, shared, -1, T_enc, H).sum(axis=2),
        "dvalue": dvalue.reshape(N, shared, -1, T_enc, value.shape[-1]).sum(axis=2),
    }
    if mask is not None and mask.dtype != bool:
        over = tuple(at for at in range(4) if mask.shape[at] == 1)
        result["dmask"] = np.where(mask == -np.inf, 0, dbias.sum(axis=over, keepdims=True))
    if alibi is not None:
        result["dalibi"] = -(dbias * distance).sum(axis=(0, 2, 3))
    if sinks is not None:
        result["dsinks"] = (of_sink * change).sum(axis=(0, 2, 3))
    return result

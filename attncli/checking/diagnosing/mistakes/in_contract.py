"""Mistakes that no number shows: what a layer does beside computing."""

from attncli.checking.diagnosing.mistakes.mistake import Mistake

CONTRACT: tuple[Mistake, ...] = (
    Mistake(
        "dropout left on",
        "the same input gives the same output",
        "numbers are drawn at every call",
        "Dropout, or other randomness, is active. Switch it off to compare or to check gradients.",
        symptom="deterministic",
        remedy="if train_flg: out *= mask  # and train_flg=False here",
    ),
    Mistake(
        "input modified in place",
        "forward leaves its inputs as they are",
        "forward writes into them",
        "x -= x.max(…) or x *= … changes the caller's array; x = x - x.max(…) makes a new one.",
        symptom="inputs unchanged",
        remedy="x = x - x.max(axis=1, keepdims=True)",
    ),
    Mistake(
        "dout modified in place",
        "backward leaves dout as it is",
        "backward writes into it",
        "dout *= … changes the caller's array.",
        symptom="dout unchanged",
        remedy="dx = self.out * dout",
    ),
    Mistake(
        "state shared by all instances",
        "every instance has its own cache",
        "the class has one for all",
        "A list or a layer in the class body (or a default argument) is the same object for every "
        "instance; it belongs into __init__, as self.….",
        symptom="two instances at once",
        remedy="def __init__(self): self.layers = []",
    ),
    Mistake(
        "state left over from the call before",
        "a second call gives what the first gave",
        "the second call adds to the first",
        "A list or a gradient is kept and added to; it has to begin anew in every forward or "
        "backward.",
        symptom="called twice",
        remedy="self.layers = []  # at the beginning of forward",
    ),
    Mistake(
        "sizes left over from the call before",
        "every call goes by the sizes of its own inputs",
        "what was made for other sizes is kept and used",
        "A mask, a scale or a buffer is made once and kept, or made again by one of the sizes "
        "alone.",
        symptom="other sizes between",
        remedy="mask = np.tri(T_dec, T_enc, dtype=bool)  # in every forward, or kept by all sizes",
    ),
    Mistake(
        "gradients of two backwards added up",
        "backward gives the gradients for its own dout",
        "it adds them to those of the backward before",
        "+= into arrays that forward made: a second backward after one forward gives twice as "
        "much.",
        symptom="backward twice",
        remedy="dhs = np.zeros_like(hs)  # at the beginning of backward",
    ),
    Mistake(
        "result of earlier inputs",
        "every result is computed from the inputs of its own call",
        "results are kept, and found again by less than all of the contents",
        "Results are remembered by shape, by array object, by address or by a few numbers; other "
        "inputs may be alike in these. A key that takes in every number (x.tobytes()) is right.",
        symptom="of the inputs at hand",
        remedy="key = (x.tobytes(), x.shape)  # or no cache at all",
    ),
    Mistake(
        "right for some calls only",
        "every call computes the same",
        "after some calls it is something else",
        "A counter, a list that grows or a buffer that fills up outlives the calls.",
        symptom="call after call",
        remedy="self.calls = []  # in __init__, not in the class or the module",
    ),
    Mistake(
        "an earlier result is overwritten",
        "what was returned stays as it is",
        "a later call writes into the same array",
        "One buffer is used by all calls, or the cache is overwritten: what was returned is worked "
        "on in place. A copy, or a new array for every call, is safe.",
        symptom="results left alone",
        remedy="return out.copy()",
    ),
    Mistake(
        "memory never written",
        "every element of a result is computed",
        "some are what happened to be in memory",
        "np.empty fills nothing: np.zeros, or an assignment to every element, does.",
        symptom="every element filled",
        remedy="out = np.zeros(shape)  # or out[...] = ... for every element",
    ),
    Mistake(
        "weights not kept",
        "after forward, the weights are in attention_weight or attention_weights",
        "None",
        "forward computes them and does not assign them to self.",
        symptom="weights kept",
        remedy="self.attention_weight = a",
    ),
    Mistake(
        "computed in float32 throughout",
        "float64 inputs are computed in float64",
        "they are cast to float32",
        "The result agrees to about 7 digits: an astype, or constants and buffers in float32.",
        symptom="float64 precision",
        remedy="hs = hs.astype(np.result_type(hs, np.float32))  # or no astype",
    ),
)

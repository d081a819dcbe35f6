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

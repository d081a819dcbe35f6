"""Mistakes in layers with weights of their own."""

from attncli.checking.diagnosing.mistakes.mistake import Mistake

PARAMETERS: tuple[Mistake, ...] = (
    Mistake(
        "heads split without a transpose",
        "(N, T, heads · H) → (N, T, heads, H) → (N, heads, T, H)",
        "(N, T, heads · H) → (N, heads, T, H) by reshape alone",
        "reshape keeps the numbers in their order: a head gets all features of some steps, where "
        "it should get some features of all steps. A transpose is missing beside the reshape.",
        remedy="x.reshape(N, T, heads, -1).transpose(0, 2, 1, 3)",
        symptom="heads split",
    ),
    Mistake(
        "heads merged without a transpose",
        "(N, heads, T, H) → (N, T, heads, H) → (N, T, heads · H)",
        "(N, heads, T, H) → (N, T, heads · H) by reshape alone",
        "reshape keeps the numbers in their order: steps and heads are mixed up. A transpose is "
        "missing beside the reshape.",
        remedy="x.transpose(0, 2, 1, 3).reshape(N, T, heads * H)",
        symptom="heads merged",
    ),
    Mistake(
        "the projected states as values",
        "out = weights · hs",
        "out = weights · (hs · W)",
        "W is there for the scores; the values are projected as well.",
        remedy="out = np.einsum('nt,nth->nh', a, hs)",
        symptom="values projected",
    ),
    Mistake(
        "tanh missing from the scores",
        "scores = v · tanh(hs · W + h · U)",
        "scores = v · (hs · W + h · U)",
        "Without the tanh what h adds is the same for every step, and cancels in the softmax.",
        remedy="u = np.tanh(hs @ W + (h @ U)[:, None])",
        symptom="tanh missing",
    ),
    Mistake(
        "derivative of tanh taken of what is already activated",
        "du = dtanh ⊙ (1 − u²), u = tanh(…)",
        "du = dtanh ⊙ (1 − tanh(u)²)",
        "u is the tanh already: its derivative is 1 − u². All gradients behind it are wrong, that "
        "of v is right.",
        remedy="du = dt * (1 - u**2)",
        symptom="tanh's derivative",
    ),
    Mistake(
        "derivative of tanh missing",
        "du = dtanh ⊙ (1 − u²), u = tanh(…)",
        "du = dtanh",
        "The gradient passes the tanh as if it were not there.",
        remedy="du = dt * (1 - u**2)",
        symptom="tanh's derivative missing",
    ),
    Mistake(
        "a matrix not transposed in backward",
        "dhs = dk · Wᵀ",
        "dhs = dk · W",
        "What is multiplied by W going forward is multiplied by its transpose going back; it fits "
        "without where W is square.",
        remedy="dhs = dk @ W.T",
        symptom="matrix not transposed",
    ),
    Mistake(
        "gradient goes back through another projection's matrix",
        "{right}",
        "{astray}",
        "What a matrix made going forward goes back through the transpose of that matrix; another "
        "one fits where both have the same shape. The gradients of the parameters can be right.",
        remedy="dx = dq @ Wq.T + dk @ Wk.T + dv @ Wv.T",
        symptom="another's matrix",
    ),
    Mistake(
        "gradient of a parameter transposed",
        "{which} = inputᵀ · doutput",
        "{which} = doutputᵀ · input",
        "The gradient has the axes of the parameter in the other order.",
        remedy="self.grads[0][...] = x.T @ dy",
        symptom="gradient transposed",
    ),
    Mistake(
        "gradients of two parameters exchanged",
        "grads[i] belongs to params[i]",
        "{which} and {other} are exchanged",
        "An optimiser would change each parameter by the other's gradient.",
        remedy="self.grads[1][...], self.grads[2][...] = dWk, dWv",
        symptom="gradients exchanged",
    ),
    Mistake(
        "gradient of a parameter averaged",
        "{which} = Σ over items and steps",
        "{which} = {share} of the sum",
        "mean where sum is meant: every item and every step used the parameter.",
        remedy="self.grads[0][...] = x.T @ dy.sum(axis=1)",
        symptom="gradient averaged",
    ),
    Mistake(
        "gradient of the first item alone",
        "{which} = Σ over the items",
        "{which} = that of item 0",
        "An index [0]: the other items of the batch used it as well.",
        remedy="self.grads[0][...] = np.einsum('nth,ntk->hk', x, dy)",
        symptom="gradient of one item",
    ),
    Mistake(
        "one entry of a parameter's gradient wrong",
        "every entry of the gradient",
        "all but {which}",
        "A single number is changed afterwards, or a loop misses it.",
        remedy="self.grads[0][...] = dW",
        symptom="one entry",
    ),
    Mistake(
        "gradients of parameters added to over calls",
        "grads hold the gradients of the last backward",
        "grads hold the sum over all calls so far",
        "+= without beginning anew: the second step of training is already wrong.",
        remedy="self.grads[0][...] = dW",
        symptom="grads begun anew",
    ),
    Mistake(
        "grads replaced by other arrays",
        "backward writes into the arrays that grads has held from the beginning",
        "self.grads = [dW], or self.grads[0] = dW",
        "An optimiser holds the arrays that were in grads at first: it never sees the new ones.",
        remedy="self.grads[0][...] = dW",
        symptom="grads kept",
    ),
    Mistake(
        "the residual missing in backward",
        "dx = dout + what comes through the layer",
        "dx = what comes through the layer",
        "x was added to the result, so dout is added to its gradient.",
        remedy="return dx + dout",
        symptom="residual",
    ),
)

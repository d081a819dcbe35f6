"""The fast core: attention and its gradients on NumPy arrays.

Examples
--------
>>> import numpy as np
>>> query, key, value = np.zeros((2, 4)), np.zeros((3, 4)), np.ones((3, 1))
>>> out, cache = attention(query, key, value)
>>> dquery, dkey, dvalue = attention_backward(np.ones_like(out), cache)
>>> dvalue.shape
(3, 1)
"""

from attncli.core.cache import Cache
from attncli.core.functions import attention, attention_backward, attention_weights, compute

__all__ = ["Cache", "attention", "attention_backward", "attention_weights", "compute"]

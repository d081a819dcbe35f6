"""The fast core: attention and its gradients on NumPy arrays.

``attncli.attention`` is this package, and the function of that name too: the package can be called.

Examples
--------
>>> import numpy as np
>>> query, key, value = np.zeros((2, 4)), np.zeros((3, 4)), np.ones((3, 1))
>>> out, cache = attention(query, key, value)
>>> dquery, dkey, dvalue = attention_backward(np.ones_like(out), cache)
>>> dvalue.shape
(3, 1)
>>> import attncli
>>> attncli.attention(query, key, value)[0].shape
(2, 1)
"""

import sys
from types import ModuleType
from typing import Any

from attncli.attention.cache import Cache
from attncli.attention.core import attention, attention_backward, attention_weights, compute

__all__ = ["Cache", "attention", "attention_backward", "attention_weights", "compute"]


class _CallablePackage(ModuleType):
    """A package that is its own main function, so that one name can be both."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return attention(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage

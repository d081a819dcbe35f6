"""The same work on an existing engine, which runs it on other cores and machines.

Nothing of it is imported unless it is asked for.
"""

from attncli.cluster.cluster_settings import Needs, Settings

__all__ = ["Needs", "Settings"]

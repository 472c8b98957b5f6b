"""What worker processes have loaded before they are forked: litellm alone takes 4 s.

Nothing here may start a thread: a fork would not have it.
"""

import threading

import worker.main as _worker
from conclave.adapters.llm.gateway import LiteLLMGateway

LOADED = _worker
LiteLLMGateway().load()
assert threading.active_count() == 1

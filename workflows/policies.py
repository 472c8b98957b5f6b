"""Timeouts and retry policies of every activity, in one place."""

from __future__ import annotations

from datetime import timedelta

from temporalio.common import RetryPolicy

HEARTBEAT_TIMEOUT = timedelta(seconds=3)
"""How soon a killed worker's model call is given to another one. The SDK sends heartbeats at
0.8 of it."""

MODEL_CALL_MARGIN = timedelta(seconds=20)
"""On top of the model's own time: the prompt, the reservation and the commit."""

MODEL_CALL_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
)
"""Without a limit on attempts: a killed worker or a stopped database must not fail a turn.
How often a provider is asked again is counted in the ledger (`conclave.conversations.turns`)."""

RECORD_TIMEOUT = timedelta(seconds=10)
RECORD_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=5),
)
"""For activities that read or write the record: they wait for the database as long as it takes."""

PIPELINE_TIMEOUT = timedelta(minutes=1)
"""Of one activity of a pipeline's run: starting twenty steps is twenty short transactions, and
what a try has stored the next one finds."""

TOOL_MARGIN = timedelta(seconds=20)
"""On top of a tool's own time: reading the ledger and the commit."""

TOOL_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
)
"""Without a limit, as for model calls. Whether a call runs again is the ledger's to say: one that
must not be repeated is not, however often its activity is tried."""

CHORE_TIMEOUT = timedelta(seconds=30)
"""Of one activity of upkeep; how soon a killed worker's chore is given to another one."""
CHORE_PATIENCE = timedelta(minutes=5)
"""How long a chore waits for its database: the next run of its schedule tries again."""
UPKEEP_TIMEOUT = timedelta(hours=1)
"""A run that is stuck must not keep its schedule from starting others."""

CLONE_TIMEOUT = timedelta(hours=1)
"""One try at a clone; git itself ends a fetch after half an hour, or a minute of silence."""
CLONE_HEARTBEAT_TIMEOUT = timedelta(seconds=10)
CLONE_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=1),
)
"""Without a limit: a killed worker must not fail a checkout. How often a remote that does not
answer is asked again is for `conclave.workspaces.checkout`."""

REMOVE_TIMEOUT = timedelta(minutes=30)
"""Removing the files of a large checkout."""

FIRING_TIMEOUT = timedelta(seconds=30)
"""One try at a trigger's action: a call to somebody else's server takes 15 s at most."""
FIRING_EXECUTION_TIMEOUT = timedelta(days=7)
"""A firing that waits for a worker must not keep its schedule from firing for ever."""

STICKY_TIMEOUT = timedelta(seconds=1)
"""How long a workflow task waits for the worker that has the run in memory. The default of 10 s
is most of the delay after a killed worker."""

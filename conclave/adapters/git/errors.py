"""What git refuses, and what stands in its way."""

from __future__ import annotations

from conclave.errors import ConclaveError, Conflict, NotFound, TooLarge, Unavailable


class GitMissing(Unavailable):
    """There is no git program, or one that is too old to be used safely."""

    code = "git_missing"


class GitBusy(Unavailable):
    """Another operation holds the repository, or this one took too long."""

    code = "git_busy"


class NotARepository(Conflict):
    """The workspace has no repository, or one whose settings are not ours."""

    code = "not_a_repository"


class GitConflict(Conflict):
    """The state of the work tree or of the remote does not allow it; git's reason is told."""

    code = "git_conflict"


class NothingStaged(Conflict):
    """A commit needs something staged."""

    code = "nothing_staged"


class NoSuchRef(NotFound):
    """No such branch, remote or file in the repository."""

    code = "ref_not_found"


class RemoteUnreachable(Unavailable):
    """The remote did not answer as it should; it may do so later."""

    code = "remote_unreachable"


class RemoteRefused(Conflict):
    """The remote says no: it is not there, or not for us. Another try cannot help."""

    code = "remote_refused"


class GitOutputTooLarge(TooLarge):
    """What git has to say is larger than what is read of it."""

    code = "git_output_too_large"


class GitFailed(ConclaveError):
    """Git failed in a way that nobody expected; its words are in the log."""

    code = "git_failed"

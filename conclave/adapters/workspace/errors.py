"""What a workspace refuses."""

from __future__ import annotations

from conclave.errors import BadRequest, Conflict, NotFound, TooLarge, Unavailable


class PathRefused(BadRequest):
    """The path leaves the workspace, crosses a link, reaches into `.git` or is no plain file."""

    code = "path_refused"


class FileNotThere(NotFound):
    """Nothing stands under that path."""

    code = "file_not_found"


class FileConflict(Conflict):
    """Something stands where the operation needs nothing, or something else, or it changed."""

    code = "file_conflict"


class FileTooLarge(TooLarge):
    """Over the limit of what is read or written at once."""

    code = "file_too_large"


class WorkspaceBusy(Unavailable):
    """A command and git would be at work on the same files."""

    code = "workspace_busy"

"""What tokens that stand for somebody else may not do.

A trust's or an application credential's token is for one project and may end; it must not make what outlives or
exceeds it (OSSA-2026-005, CVE-2026-43000, and what was found beside them).
"""

from __future__ import annotations

from pileus.web.call import Call
from pileus.web.errors import Forbidden


def is_delegated(call: Call) -> bool:
    """Whether the caller's token came from a trust or an application credential."""
    return bool(call.context.trust_id or call.context.application_credential_id)


def forbid_restricted(call: Call) -> None:
    """Raises Forbidden for a restricted application credential: it may not manage credentials of any kind."""
    if call.context.application_credential_id and not call.context.unrestricted:
        raise Forbidden("A restricted application credential may not manage credentials; log in with a password, or "
                        "make an unrestricted one.")


def forbid_application_credential(call: Call) -> None:
    """Raises Forbidden for any application credential: trusts are out of its reach."""
    if call.context.application_credential_id:
        raise Forbidden("An application credential may not read or manage trusts.")


def forbid_trust(call: Call) -> None:
    """Raises Forbidden for a trust's token: application credentials would outlive the trust."""
    if call.context.trust_id:
        raise Forbidden("A trust's token may not manage application credentials.")


def in_reach(call: Call, project_id: str | None) -> bool:
    """Whether a credential for a project is one that the caller's token may see: a delegated one sees its project's."""
    return not is_delegated(call) or (project_id is not None and project_id == call.context.project_id)


def check_reach(call: Call, project_id: str | None) -> None:
    """Raises Forbidden when the credential is out of a delegated token's reach."""
    if not in_reach(call, project_id):
        raise Forbidden("The credential's project does not match the project of the delegated token.")

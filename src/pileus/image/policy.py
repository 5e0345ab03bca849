"""Image's policy rules: the defaults, by the names that Glance's operators know.

Which images exist for a caller at all is not policy: an image that is neither his project's, nor public, community or
shared with it, is not found."""

_ADMIN = "role:admin"
_MEMBER = _ADMIN + " or (role:member and project_id:%(project_id)s)"
_READER = _ADMIN + " or (role:reader and project_id:%(project_id)s)"
_SEEN = (
    "(project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s "
    "or 'shared':%(visibility)s)"
)
_SHARED = _ADMIN + " or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))"

RULES = {
    "add_image": _ADMIN + " or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
    "delete_image": _MEMBER,
    "get_image": f"{_ADMIN} or (role:reader and {_SEEN})",
    "get_images": _READER,
    "modify_image": _MEMBER,
    "publicize_image": _ADMIN,
    "communitize_image": _MEMBER,
    "download_image": f"{_ADMIN} or (role:member and {_SEEN})",
    "upload_image": _MEMBER,
    "add_member": _MEMBER,
    "delete_member": _MEMBER,
    "get_member": _SHARED,
    "get_members": _SHARED,
    "modify_member": _ADMIN + " or (role:member and project_id:%(member_id)s)",
    "deactivate": _MEMBER,
    "reactivate": _MEMBER,
    "tasks_api_access": _ADMIN,
}

"""Identity: the whole API on one screen. Handlers enforce the rules of `policy.py` on the objects they touch."""

from __future__ import annotations

from pileus.identity import (
    access_rules,
    application_credentials,
    authenticate,
    credentials,
    discovery,
    domains,
    ec2_credentials,
    ec2_tokens,
    endpoints,
    grants,
    groups,
    limits,
    password_change,
    policies,
    projects,
    reachable,
    regions,
    registered_limits,
    role_assignments,
    roles,
    services,
    tokens,
    trusts,
    users,
)
from pileus.identity import schemas as s
from pileus.identity import schemas_catalog as c
from pileus.identity import schemas_delegation as d
from pileus.identity import schemas_limits as m
from pileus.identity import schemas_people as p
from pileus.identity import schemas_roles as r
from pileus.web.routes import AUTHENTICATED, PUBLIC, Route

_KB = 1024

_GRANTS = tuple(
    row
    for actor in ("users/{user_id}", "groups/{group_id}")
    for start, end in (
        ("/v3/projects/{project_id}", ""), ("/v3/domains/{domain_id}", ""), ("/v3/system", ""),
        ("/v3/OS-INHERIT/projects/{project_id}", "/inherited_to_projects"),
        ("/v3/OS-INHERIT/domains/{domain_id}", "/inherited_to_projects"),
    )
    for row in (
        Route("GET", f"{start}/{actor}/roles{end}", grants.index, AUTHENTICATED),
        Route("PUT", f"{start}/{actor}/roles/{{role_id}}{end}", grants.put, AUTHENTICATED, 204),
        Route("GET", f"{start}/{actor}/roles/{{role_id}}{end}", grants.check, AUTHENTICATED, 204),
        Route("DELETE", f"{start}/{actor}/roles/{{role_id}}{end}", grants.revoke, AUTHENTICATED, 204),
    )
)

ROUTES = (
    Route("GET", "/", discovery.versions, PUBLIC),
    Route("GET", "/v3", discovery.v3, PUBLIC),
    # tokens
    Route("POST", "/v3/auth/tokens", authenticate.issue, PUBLIC, 201, body=s.AuthBody, max_body=64 * _KB),
    Route("GET", "/v3/auth/tokens", tokens.show, AUTHENTICATED),
    Route("DELETE", "/v3/auth/tokens", tokens.revoke, AUTHENTICATED, 204),
    Route("GET", "/v3/auth/catalog", tokens.show_catalog, AUTHENTICATED),
    Route("GET", "/v3/auth/projects", reachable.own_projects, AUTHENTICATED),
    Route("GET", "/v3/auth/domains", reachable.own_domains, AUTHENTICATED),
    Route("GET", "/v3/auth/system", reachable.own_system, AUTHENTICATED),
    Route("POST", "/v3/ec2tokens", ec2_tokens.ec2_token, "identity:ec2tokens_validate", body=d.Ec2TokenBody,
          write=False),
    Route("POST", "/v3/s3tokens", ec2_tokens.s3_token, "identity:s3tokens_validate", body=d.S3TokenBody, write=False),
    # domains
    Route("GET", "/v3/domains", domains.index, AUTHENTICATED),
    Route("POST", "/v3/domains", domains.create, AUTHENTICATED, 201, body=p.DomainBody),
    Route("GET", "/v3/domains/{domain_id}", domains.show, AUTHENTICATED),
    Route("PATCH", "/v3/domains/{domain_id}", domains.update, AUTHENTICATED, body=p.DomainBody),
    Route("DELETE", "/v3/domains/{domain_id}", domains.delete, AUTHENTICATED, 204),
    # projects
    Route("GET", "/v3/projects", projects.index, AUTHENTICATED, query=s.ProjectQuery),
    Route("POST", "/v3/projects", projects.create, AUTHENTICATED, 201, body=s.ProjectNewBody),
    Route("GET", "/v3/projects/{project_id}", projects.show, AUTHENTICATED),
    Route("PATCH", "/v3/projects/{project_id}", projects.update, AUTHENTICATED, body=s.ProjectNewBody),
    Route("DELETE", "/v3/projects/{project_id}", projects.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/projects/{project_id}/tags", projects.list_tags, AUTHENTICATED),
    Route("PUT", "/v3/projects/{project_id}/tags", projects.replace_tags, AUTHENTICATED, body=s.TagsBody),
    Route("DELETE", "/v3/projects/{project_id}/tags", projects.delete_tags, AUTHENTICATED, 204),
    Route("GET", "/v3/projects/{project_id}/tags/{tag}", projects.has_tag, AUTHENTICATED, 204),
    Route("PUT", "/v3/projects/{project_id}/tags/{tag}", projects.add_tag, AUTHENTICATED, 201),
    Route("DELETE", "/v3/projects/{project_id}/tags/{tag}", projects.remove_tag, AUTHENTICATED, 204),
    # users
    Route("GET", "/v3/users", users.index, AUTHENTICATED),
    Route("POST", "/v3/users", users.create, AUTHENTICATED, 201, body=p.UserBody),
    Route("GET", "/v3/users/{user_id}", users.show, AUTHENTICATED),
    Route("PATCH", "/v3/users/{user_id}", users.update, AUTHENTICATED, body=p.UserBody),
    Route("DELETE", "/v3/users/{user_id}", users.delete, AUTHENTICATED, 204),
    Route("POST", "/v3/users/{user_id}/password", password_change.change, PUBLIC, 204, body=p.PasswordChangeBody,
          max_body=64 * _KB),
    Route("GET", "/v3/users/{user_id}/groups", users.groups_of, AUTHENTICATED),
    Route("GET", "/v3/users/{user_id}/projects", reachable.of_user, AUTHENTICATED),
    # groups
    Route("GET", "/v3/groups", groups.index, AUTHENTICATED),
    Route("POST", "/v3/groups", groups.create, AUTHENTICATED, 201, body=p.GroupBody),
    Route("GET", "/v3/groups/{group_id}", groups.show, AUTHENTICATED),
    Route("PATCH", "/v3/groups/{group_id}", groups.update, AUTHENTICATED, body=p.GroupBody),
    Route("DELETE", "/v3/groups/{group_id}", groups.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/groups/{group_id}/users", groups.members, AUTHENTICATED),
    Route("PUT", "/v3/groups/{group_id}/users/{user_id}", groups.add_member, AUTHENTICATED, 204),
    Route("GET", "/v3/groups/{group_id}/users/{user_id}", groups.has_member, AUTHENTICATED, 204),
    Route("DELETE", "/v3/groups/{group_id}/users/{user_id}", groups.remove_member, AUTHENTICATED, 204),
    # roles
    Route("GET", "/v3/roles", roles.index, AUTHENTICATED),
    Route("POST", "/v3/roles", roles.create, AUTHENTICATED, 201, body=r.RoleBody),
    Route("GET", "/v3/roles/{role_id}", roles.show, AUTHENTICATED),
    Route("PATCH", "/v3/roles/{role_id}", roles.update, AUTHENTICATED, body=r.RoleBody),
    Route("DELETE", "/v3/roles/{role_id}", roles.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/roles/{role_id}/implies", roles.list_implied, AUTHENTICATED),
    Route("GET", "/v3/roles/{role_id}/implies/{implied_id}", roles.show_implied, AUTHENTICATED),
    Route("HEAD", "/v3/roles/{role_id}/implies/{implied_id}", roles.check_implied, AUTHENTICATED, 204),
    Route("PUT", "/v3/roles/{role_id}/implies/{implied_id}", roles.add_implied, AUTHENTICATED, 201),
    Route("DELETE", "/v3/roles/{role_id}/implies/{implied_id}", roles.remove_implied, AUTHENTICATED, 204),
    Route("GET", "/v3/role_inferences", roles.inferences, "identity:list_role_inference_rules"),
    *_GRANTS,
    Route("GET", "/v3/role_assignments", role_assignments.index, AUTHENTICATED, query=r.AssignmentQuery),
    # catalog
    Route("GET", "/v3/regions", regions.index, "identity:list_regions"),
    Route("POST", "/v3/regions", regions.create, AUTHENTICATED, 201, body=c.RegionBody),
    Route("GET", "/v3/regions/{region_id}", regions.show, "identity:get_region"),
    Route("PUT", "/v3/regions/{region_id}", regions.create, AUTHENTICATED, 201, body=c.RegionBody),
    Route("PATCH", "/v3/regions/{region_id}", regions.update, AUTHENTICATED, body=c.RegionBody),
    Route("DELETE", "/v3/regions/{region_id}", regions.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/services", services.index, AUTHENTICATED),
    Route("POST", "/v3/services", services.create, AUTHENTICATED, 201, body=c.ServiceBody),
    Route("GET", "/v3/services/{service_id}", services.show, AUTHENTICATED),
    Route("PATCH", "/v3/services/{service_id}", services.update, AUTHENTICATED, body=c.ServiceBody),
    Route("DELETE", "/v3/services/{service_id}", services.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/endpoints", endpoints.index, AUTHENTICATED),
    Route("POST", "/v3/endpoints", endpoints.create, AUTHENTICATED, 201, body=c.EndpointBody),
    Route("GET", "/v3/endpoints/{endpoint_id}", endpoints.show, AUTHENTICATED),
    Route("PATCH", "/v3/endpoints/{endpoint_id}", endpoints.update, AUTHENTICATED, body=c.EndpointBody),
    Route("DELETE", "/v3/endpoints/{endpoint_id}", endpoints.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/policies", policies.index, AUTHENTICATED),
    Route("POST", "/v3/policies", policies.create, AUTHENTICATED, 201, body=c.PolicyBody),
    Route("GET", "/v3/policies/{policy_id}", policies.show, AUTHENTICATED),
    Route("PATCH", "/v3/policies/{policy_id}", policies.update, AUTHENTICATED, body=c.PolicyBody),
    Route("DELETE", "/v3/policies/{policy_id}", policies.delete, AUTHENTICATED, 204),
    # credentials
    Route("GET", "/v3/credentials", credentials.index, AUTHENTICATED),
    Route("POST", "/v3/credentials", credentials.create, AUTHENTICATED, 201, body=d.CredentialBody),
    Route("GET", "/v3/credentials/{credential_id}", credentials.show, AUTHENTICATED),
    Route("PATCH", "/v3/credentials/{credential_id}", credentials.update, AUTHENTICATED, body=d.CredentialBody),
    Route("DELETE", "/v3/credentials/{credential_id}", credentials.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/users/{user_id}/credentials/OS-EC2", ec2_credentials.index, AUTHENTICATED),
    Route("POST", "/v3/users/{user_id}/credentials/OS-EC2", ec2_credentials.create, AUTHENTICATED, 201,
          body=d.Ec2Body),
    Route("GET", "/v3/users/{user_id}/credentials/OS-EC2/{access}", ec2_credentials.show, AUTHENTICATED),
    Route("DELETE", "/v3/users/{user_id}/credentials/OS-EC2/{access}", ec2_credentials.delete, AUTHENTICATED, 204),
    # delegation
    Route("GET", "/v3/OS-TRUST/trusts", trusts.index, AUTHENTICATED),
    Route("POST", "/v3/OS-TRUST/trusts", trusts.create, AUTHENTICATED, 201, body=d.TrustBody),
    Route("GET", "/v3/OS-TRUST/trusts/{trust_id}", trusts.show, AUTHENTICATED),
    Route("DELETE", "/v3/OS-TRUST/trusts/{trust_id}", trusts.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/OS-TRUST/trusts/{trust_id}/roles", trusts.list_roles, AUTHENTICATED),
    Route("GET", "/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}", trusts.show_role, AUTHENTICATED),
    Route("GET", "/v3/users/{user_id}/application_credentials", application_credentials.index, AUTHENTICATED),
    Route("POST", "/v3/users/{user_id}/application_credentials", application_credentials.create, AUTHENTICATED, 201,
          body=d.ApplicationCredentialBody),
    Route("GET", "/v3/users/{user_id}/application_credentials/{credential_id}", application_credentials.show,
          AUTHENTICATED),
    Route("DELETE", "/v3/users/{user_id}/application_credentials/{credential_id}", application_credentials.delete,
          AUTHENTICATED, 204),
    Route("GET", "/v3/users/{user_id}/access_rules", access_rules.index, AUTHENTICATED),
    Route("GET", "/v3/users/{user_id}/access_rules/{rule_id}", access_rules.show, AUTHENTICATED),
    Route("DELETE", "/v3/users/{user_id}/access_rules/{rule_id}", access_rules.delete, AUTHENTICATED, 204),
    # unified limits
    Route("GET", "/v3/limits/model", limits.model, "identity:get_limit_model"),
    Route("GET", "/v3/limits", limits.index, "identity:list_limits"),
    Route("POST", "/v3/limits", limits.create, AUTHENTICATED, 201, body=m.LimitsBody),
    Route("GET", "/v3/limits/{limit_id}", limits.show, AUTHENTICATED),
    Route("PATCH", "/v3/limits/{limit_id}", limits.update, AUTHENTICATED, body=m.LimitBody),
    Route("DELETE", "/v3/limits/{limit_id}", limits.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/registered_limits", registered_limits.index, "identity:list_registered_limits"),
    Route("POST", "/v3/registered_limits", registered_limits.create, AUTHENTICATED, 201, body=m.RegisteredLimitsBody),
    Route("GET", "/v3/registered_limits/{limit_id}", registered_limits.show, "identity:get_registered_limit"),
    Route("PATCH", "/v3/registered_limits/{limit_id}", registered_limits.update, AUTHENTICATED,
          body=m.RegisteredLimitBody),
    Route("DELETE", "/v3/registered_limits/{limit_id}", registered_limits.delete, AUTHENTICATED, 204),
)

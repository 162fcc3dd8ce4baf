# What the operator may do: sign pinned to an issuer, read its role, revoke. No issue, no sign-verbatim, no data path.
path "pki_int/issuer/+/sign/workload" { capabilities = ["update"] }
path "pki_int/roles/workload"         { capabilities = ["read"] }
path "pki_int/revoke"                 { capabilities = ["update"] }

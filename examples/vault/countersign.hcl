# Policy "countersign": sign, and nothing else. No issue (the key stays in the cluster), no
# sign-verbatim (the role's limits would not apply), no data path.
path "pki_int/issuer/+/sign/workload" {
  capabilities = ["update"]
}

# Optional: lets the operator tell a role that is missing from one that refuses.
path "pki_int/roles/workload" {
  capabilities = ["read"]
}

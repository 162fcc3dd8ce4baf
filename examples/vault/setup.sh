#!/bin/sh
# Prepares Vault or OpenBao for the trust domain `prod.example`: role, policy and login.
#
#   CLI=bao   ./setup.sh      # or CLI=vault; the default is whichever is installed
#
# Needs: an administrator's login in the environment (BAO_ADDR and BAO_TOKEN, or VAULT_ADDR and
# VAULT_TOKEN), and a PKI mount `pki_int` with an issuer that may sign. Can be run again.
set -eu
cd "$(dirname "$0")"

if [ -z "${CLI:-}" ]; then
  CLI=$(command -v bao || command -v vault) || { echo "neither bao nor vault is installed" >&2; exit 1; }
fi
MOUNT=${MOUNT:-pki_int}

# The role bounds the kinds of names; whose names they are is the operator's business. What each
# setting prevents is in docs/how-to/vault-or-openbao.md.
"$CLI" write "$MOUNT/roles/workload" \
  key_type=ec key_bits=256 \
  require_cn=false use_csr_common_name=false use_csr_sans=false \
  allowed_uri_sans="spiffe://prod.example/ns/*" \
  allowed_domains="*.svc,*.svc.cluster.local,*.pay.internal" allow_glob_domains=true \
  allow_wildcard_certificates=false allow_localhost=false allow_ip_sans=false \
  key_usage=DigitalSignature basic_constraints_valid_for_non_ca=true \
  not_before_duration=300s ttl=24h max_ttl=168h no_store=true

sed "s|pki_int/|$MOUNT/|" countersign.hcl | "$CLI" policy write countersign -

# The operator logs in with a token of its own ServiceAccount, made for this audience.
if ! "$CLI" auth list | grep -q '^kubernetes/'; then
  "$CLI" auth enable kubernetes
fi
# A server inside the cluster reviews tokens as its own pod's account, which needs the ClusterRole
# system:auth-delegator. One outside also needs the cluster's CA and a reviewer's token, as files
# in KUBERNETES_CA and REVIEWER_JWT.
set -- kubernetes_host="${KUBERNETES_HOST:-https://kubernetes.default.svc}"
if [ -n "${KUBERNETES_CA:-}" ]; then set -- "$@" kubernetes_ca_cert=@"$KUBERNETES_CA"; fi
if [ -n "${REVIEWER_JWT:-}" ]; then set -- "$@" token_reviewer_jwt=@"$REVIEWER_JWT"; fi
"$CLI" write auth/kubernetes/config "$@"
"$CLI" write auth/kubernetes/role/countersign \
  bound_service_account_names=countersign bound_service_account_namespaces=countersign-system \
  audience=vault token_policies=countersign token_ttl=1h token_max_ttl=24h

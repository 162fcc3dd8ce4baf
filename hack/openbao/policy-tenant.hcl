# What every tenant may do, one policy for all: read the secrets below the name of its own namespace, and nothing else.
# ACCESSOR is that of the kubernetes auth mount: `bao auth list -format=json`, field `kubernetes/.accessor`.
path "secret/data/{{identity.entity.aliases.ACCESSOR.metadata.service_account_namespace}}/*"     { capabilities = ["read"] }
path "secret/metadata/{{identity.entity.aliases.ACCESSOR.metadata.service_account_namespace}}/*" { capabilities = ["read"] }

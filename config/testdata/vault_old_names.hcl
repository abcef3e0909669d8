# Names from Vault's first years, and a habit of quoting everything.
backend "file" {
  path = "/var/vault"
}
ha_backend "consul" {
}
retry_join = ["provider=aws"]
listener "tcp" {
  address       = "127.0.0.1:8200"
  tls_disable   = "yes"
}
seal "awskms" {
  kms_key_id         = "alias/vault"
  region             = "us_east_1"
  aws_access_key     = "HUSHid"
  skip_region_check  = true
}
replication {
  resolver_discover_servers = false
}

# A first server from a tutorial: files on disk, keys typed in by hand.
storage "file" {
  path = "/opt/vault/data"
}
listener "tcp" {
  address     = "0.0.0.0:8200"
  tls_disable = 1
}
default_lease_ttl = "168h"
max_lease_ttl     = "720h"
ui                = true

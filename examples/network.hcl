# A keep that other machines use. Certificates that are renewed, by whatever tool, are taken over when their files change:
# nothing needs to be restarted or reloaded.

storage "bbolt" {
  path = "/var/lib/sealkeep/sealkeep.db"
}

# For everybody on the network.
listener "tcp" {
  address       = "10.0.0.5:8200"
  tls_cert_file = "/etc/sealkeep/tls.crt"
  tls_key_file  = "/etc/sealkeep/tls.key"
}

# For machines with a certificate of our own authority, and for nobody else.
listener "tcp" {
  address                            = "10.0.0.5:8201"
  tls_cert_file                      = "/etc/sealkeep/tls.crt"
  tls_key_file                       = "/etc/sealkeep/tls.key"
  tls_min_version                    = "tls13"
  tls_client_ca_file                 = "/etc/sealkeep/clients.pem"
  tls_require_and_verify_client_cert = true
}

# For two load balancers, behind a proxy that adds itself to X-Forwarded-For, too. Requests that come from elsewhere, or
# do not say who the client is, are refused.
listener "tcp" {
  address                          = "10.0.0.5:8202"
  tls_cert_file                    = "/etc/sealkeep/tls.crt"
  tls_key_file                     = "/etc/sealkeep/tls.key"
  x_forwarded_for_authorized_addrs = ["10.0.1.10", "10.0.1.11"]
  x_forwarded_for_hop_skips        = 1
}

api_addr = "https://keep.example.com:8200"

seal "awskms" {
  region     = "eu-central-1"
  kms_key_id = "alias/sealkeep"
}

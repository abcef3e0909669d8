# A keep on a machine in AWS. The credentials come from the instance's role, which needs kms:DescribeKey, kms:Encrypt
# and kms:Decrypt on the key; access_key and secret_key in this file are the last resort.

storage "bbolt" {
  path = "/var/lib/sealkeep/sealkeep.db"
}

listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/etc/sealkeep/tls/cert.pem"
  tls_key_file  = "/etc/sealkeep/tls/key.pem"
}

# For programs on this machine.
listener "unix" {
  address      = "/run/sealkeep/api.sock"
  socket_mode  = "0660"
  socket_group = "sealkeep"
}

seal "awskms" {
  kms_key_id = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
}

# A second key service, so that losing the first is not losing the store: here a key of another region.
seal "awskms" {
  name       = "ireland"
  kms_key_id = "alias/sealkeep"
  region     = "eu-west-1"
}

# When both are gone, people open the keep: with the recovery shares that init prints, or, instead, with age identities.
# recovery "age" {
#   recipients = ["age1..."]
# }

api_addr = "https://keep.example.com:8200"

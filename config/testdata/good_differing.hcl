# env STATE_DIRECTORY=/var/lib/sealkeep
# env AWS_REGION=eu-west-1
# env AWS_DEFAULT_REGION=us-east-1
# env AWS_ACCESS_KEY_ID=HUSHenv
# env AWS_SECRET_ACCESS_KEY=HUSHfile
# env VAULT_TOKEN=HUSHenv
# env VAULT_ADDR=https://vault.example.com
# env VAULT_CACERT=/env.pem
# env VAULT_AWSKMS_SEAL_KEY_ID_a=alias/other
seal "awskms" {
  name       = "a"
  kms_key_id = "alias/x"
  access_key = "HUSHfile"
  secret_key = "HUSHfile"
}
seal "awskms" {
  name       = "c"
  kms_key_id = "alias/x"
  region     = "eu-central-1"
}
seal "transit" {
  name            = "b"
  address         = "https://vault.example.com"
  token           = "HUSHfile"
  mount_path      = "transit"
  key_name        = "k"
  tls_skip_verify = true
}

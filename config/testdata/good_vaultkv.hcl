# env STATE_DIRECTORY=/var/lib/sealkeep
# env VAULT_ADDR=https://vault.example.com
# env VAULT_TOKEN=HUSHa
# env VAULT_TOKEN_FILE=$TESTDATA/token.txt
# env VAULT_NAMESPACE=team
seal "vaultkv" {
  key_path = "team/kv/data/keep/key"
}

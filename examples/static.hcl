# A keep whose key is a file beside it: for a laptop, a test, or as one of several seals. Whoever has the key and the
# store has the secrets, so keep them on different disks. sealkeep keygen -out /etc/sealkeep/key makes one; the unit
# has LoadCredential=sealkeep-key:/etc/sealkeep/key.

storage "bbolt" {
  path = "/var/lib/sealkeep/sealkeep.db"
}

listener "tcp" {
  address = "127.0.0.1:8200"
}

seal "static" {
  current_key    = credential("sealkeep-key")
  current_key_id = "2026-01"
}

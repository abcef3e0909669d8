storage "bbolt" {
  path = "/a/sealkeep.db"
}
storage "bbolt" {
  path = "/b/"
  initial_mmap_size = "big"
}
seal "awskms" {
  kms_key_id = "alias/x"
}

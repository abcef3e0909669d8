storage "bbolt" {
  path = "/b/"
  initial_mmap_size = "big"
}
seal "awskms" {
  kms_key_id = "alias/x"
}
log_level = "loud"
log_format = "xml"
api_addr = "keep.example.com"

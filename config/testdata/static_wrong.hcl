# env STATE_DIRECTORY=/var/lib/sealkeep
seal "static" {
  name            = "a"
  current_key     = "HUSH"
  current_key_id  = "1"
  previous_key    = "HUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUS="
}
seal "static" {
  name            = "b"
  current_key     = "file://${env("TESTDATA")}/badkey.txt"
  current_key_id  = "1"
}
seal "static" {
  name            = "c"
  current_key     = "0123456789abcdef0123456789abcdef"
  current_key_id  = "1"
  previous_key    = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
  previous_key_id = "1"
}
seal "static" {
  name            = "d"
  current_key     = "0123456789abcdef0123456789abcdef"
  current_key_id  = "1"
  previous_key    = "0123456789abcdef0123456789abcdeg"
}
seal "static" {
  name            = "e"
  current_key     = "HUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSHHUSH"
}
